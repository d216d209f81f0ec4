#pragma once
// How the segments of a call are read: which level, which rows belong together, in which space the
// weighted sums live until their maps are applied.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/engine.h"
#include "kernels/cpu/part_reader.h"
#include "kernels/rope.h"

namespace kvlab {

/// One use of a stream: key, or a contribution to the values.
struct OperandReader {
  const Operand* operand = nullptr;
  StreamReader stream{};
  int units = 1;            // of all lists of a sequence
  int dim = 0;              // features of a head: head_dim or value_dim
  bool forced = false;      // rows are decoded because level materialised was asked for
  bool built = false;       // row scale, up and bias are applied row by row, to decoded rows
                            // (materialised)
  bool is_rotated = false;  // RoPE is applied row by row, to decoded rows
  bool unrotate = false;    // the Hadamard rotation is undone row by row, to decoded rows
  int scale_column = -1;    // row_scale

  bool is_up() const { return operand->map == Operand::Map::up; }
  bool is_slice() const { return operand->map == Operand::Map::slice; }
  /// The Hadamard rotation is left to the query or to the sum.
  bool folds_hadamard() const { return stream.layout().rotate_hadamard && !unrotate; }
  /// Rows are decoded to float32 before they are used.
  bool decodes() const { return forced || built || is_rotated || unrotate; }
  /// What the query meets, and what a weighted sum consists of.
  int width() const { return is_up() && !built ? stream.layout().width : dim; }
  /// Features of a row that its map takes.
  int map_width() const { return is_slice() ? dim : stream.layout().width; }
  /// The row scale is left to the logits or to the weights.
  bool folds_scale() const { return scale_column >= 0 && !built; }
  /// Features of a stored row that one head makes the engine read.
  int read_features() const { return is_slice() && !unrotate ? dim : stream.layout().width; }
  int unit_of(int kv_head, int num_kv_heads) const {
    return static_cast<int>(int64_t{kv_head} * units / num_kv_heads);
  }
  int first_feature(int kv_head) const { return is_slice() ? kv_head * dim : 0; }
};

struct SegmentReader {
  const Segment* segment = nullptr;
  OperandReader key{};
  std::vector<OperandReader> values{};
  int group = 0;  // segments of one group share weighted sums
  bool scales_values = false;
};

/// Segments whose weighted sums live in one space, and the map that leads out of it.
struct SumGroup {
  std::vector<int> segments{};
  std::vector<int> widths{};                 // of each contribution, features
  std::vector<const OperandReader*> maps{};  // of each contribution, in its first segment
  int units = 1;  // items of a sequence: the coarsest of the segments' units
};

/// Everything that does not depend on which rows there are.
struct Recipe {
  std::vector<SegmentReader> segments{};
  std::vector<SumGroup> groups{};
  std::string level{}, kernel{}, reason{};
};

struct RecipeRequest {
  const Layer* shape = nullptr;
  std::span<const Segment> segments{};
  Isa isa = Isa::scalar;
  Level level = Level::automatic;
  int64_t rows_per_head = 1;  // query rows that share a kv head, of one item
};

/// E_UNSUPPORTED where a level, a hook or a shape cannot be had; E_SHAPE where maps do not fit.
Recipe make_recipe(const RecipeRequest& request);

}  // namespace kvlab
