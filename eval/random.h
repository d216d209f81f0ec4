#pragma once
// Random numbers that C++ and Python agree on bit for bit: SplitMix64 and what is drawn from it.
// Never std::shuffle or std::uniform_int_distribution, whose results differ between libraries.

#include <cstdint>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

namespace kvlab {

/// Named in records; a change of any draw below is another scheme.
inline constexpr std::string_view kRandomScheme = "splitmix64/1";

/// FNV-1a, 64 bits.
constexpr uint64_t fnv1a64(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

class SplitMix64 {
 public:
  constexpr explicit SplitMix64(uint64_t state) : state_(state) {}

  constexpr uint64_t next() {
    state_ += 0x9E3779B97F4A7C15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  /// In [0, n): the high 64 bits of next() * n, no rejection.
  constexpr uint64_t below(uint64_t n) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<uint64_t>((static_cast<Wide>(next()) * n) >> 64);
  }

  /// In [0, 1), 53 bits.
  constexpr double u01() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

  /// Fisher-Yates from the end.
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i-- > 1;) std::swap(items[i], items[below(i + 1)]);
  }

  /// k of the items without replacement, in the order drawn; k <= items.size().
  template <class T>
  std::vector<T> sample(std::vector<T> items, size_t k) {
    for (size_t i = 0; i < k; ++i) std::swap(items[i], items[i + below(items.size() - i)]);
    items.resize(k);
    return items;
  }

  /// k of the integers [first, last) without replacement.
  std::vector<int32_t> sample_range(int32_t first, int32_t last, size_t k) {
    std::vector<int32_t> items(static_cast<size_t>(last - first));
    std::iota(items.begin(), items.end(), first);
    return sample(std::move(items), k);
  }

 private:
  uint64_t state_;
};

/// The stream of sample `index` of task `name` under `seed`: independent of every other sample, so
/// samples can be made in any order.
constexpr SplitMix64 random_stream(uint64_t seed, std::string_view name, uint64_t index) {
  return SplitMix64(SplitMix64(seed ^ fnv1a64(name)).next() + index);
}

}  // namespace kvlab
