#pragma once
// The words everything else is written in: dtypes, devices, tensor views, sequence ids.

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string_view>

namespace kvlab {

using u8 = std::uint8_t;

/// An index or a size as containers take it.
inline size_t at(int64_t i) { return static_cast<size_t>(i); }
/// The least multiple of step that is no less than value.
inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

enum class Dtype : u8 { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };

int64_t size_of(Dtype dtype);              // bytes of one element
std::string_view name_of(Dtype dtype);     // "float32", "bfloat16", ...
Dtype dtype_named(std::string_view name);  // the inverse; E_UNKNOWN names the nearest

struct Device {
  enum class Kind : u8 { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

/// One live sequence of a Cache.  Never reused within a cache.
enum class SeqId : int64_t {};

/// Positions or slots [first, last).
struct Range {
  int64_t first = 0, last = 0;
  int64_t size() const { return last - first; }
  bool operator==(const Range&) const = default;
};

/// `until` of a row that every later query may read.
inline constexpr int32_t kForever = std::numeric_limits<int32_t>::max();

/// Somebody else's tensor: a pointer and how to walk it.  Valid for the call it is passed to.
/// Strides are in elements.  An absent tensor has no data and converts to false.
struct TensorView {
  static constexpr int kMaxDims = 4;
  void* data = nullptr;
  Dtype dtype = Dtype::f32;
  Device device{};
  int dims = 0;
  std::array<int64_t, kMaxDims> sizes{};
  std::array<int64_t, kMaxDims> strides{};

  explicit operator bool() const { return data != nullptr; }
  int64_t size(int dim) const { return sizes[static_cast<size_t>(dim)]; }
  int64_t stride(int dim) const { return strides[static_cast<size_t>(dim)]; }
  int64_t numel() const;
  bool is_contiguous() const;
  /// Rows [range) of dimension 0.
  TensorView rows(Range range) const;
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  u8* at(int64_t i0) const { return static_cast<u8*>(data) + i0 * strides[0] * size_of(dtype); }
};

/// A view of dense row-major memory.
TensorView dense_view(void* data, Dtype dtype, std::span<const int64_t> sizes, Device device = {});
TensorView dense_view(void* data, Dtype dtype, std::initializer_list<int64_t> sizes,
                      Device device = {});
TensorView dense_view(const void* data, Dtype dtype, std::initializer_list<int64_t> sizes,
                      Device device = {});

/// Rows of many lists, packed one list after another, each by rising position.
/// indptr [lists + 1], values [indptr.back(), ...].
struct Ragged {
  std::span<const int64_t> indptr{};
  TensorView values{};
};

}  // namespace kvlab
