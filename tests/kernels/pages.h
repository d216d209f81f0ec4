#pragma once
// A test-only store: pages of one part, filled through an engine, for tests of the engine.

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/page_layout.h"
#include "core/registry.h"
#include "tests/kernels/codec_oracle.h"

namespace kvlab::test {

const Registry& codecs();

/// "int4" with {"group": 32}, completed with the codec's defaults.
StreamLayout stream(const std::string& name, int units, int width, const std::string& codec,
                    const std::string& params = "{}", bool rotate_hadamard = false);
oracle::Format format_of(const StreamLayout& stream);

struct PagesOptions {
  int page_tokens = 64;
  bool shuffle = false;  // page ids in random order, with unused pages between
  bool position_column = false, until_column = false;
  int64_t gap = 0;  // unused bytes between pages
  std::vector<Column> columns{};
  uint64_t seed = 1;
};

/// One part of several lists.  Slots begin at `first_slot` of each list.
class Pages {
 public:
  Pages(std::vector<StreamLayout> streams, int lists, const PagesOptions& options = {});
  Pages(const Pages&) = delete;

  /// A list gets slots [first, last): memory for its pages.
  void resize(int list, int64_t first, int64_t last);
  /// rows [n][units * width] of one list, float32, into slots [slot, slot + n).
  void write(Engine& engine, int stream, int list, int64_t slot,
             const std::vector<std::vector<float>>& rows);
  void set_int(int list, int column, int64_t slot, int32_t value);
  void set_float(int list, const std::string& column, int64_t slot, float value);
  void punch(int list, int64_t page);  // makes page k of a list a hole

  /// What the bytes of a row mean, by the oracle: rotation undone.
  std::vector<double> stored(int stream, int list, int unit, int64_t slot) const;
  int64_t position(int list, int64_t slot) const;
  int64_t until(int list, int64_t slot) const;

  PartView view{};
  PageLayout layout{};

 private:
  u8* page_of(int list, int64_t slot) const;
  PagesOptions options_{};
  std::mt19937_64 random_;
  int64_t page_bytes_ = 0;
  std::vector<std::unique_ptr<u8[]>> memory_{};
  std::vector<std::vector<int32_t>> ids_{};
};

/// Seeded normal numbers, rounded to `dtype`.
std::vector<float> normal(std::mt19937_64& random, int64_t count, Dtype dtype = Dtype::f32);

}  // namespace kvlab::test
