#pragma once
// What a layer's shape alone says: which image of the hidden row x can stand for keys and values.

#include <cstdint>
#include <string>
#include <vector>

#include "core/model_shape.h"

namespace kvlab::slim {

/// Where RoPE stands between a key's projection and its scores.
enum class Rotary : u8 { none, partial, full };

/// One attention site: keys K = x W_K, values V = x W_V, x [D].
struct Site {
  int layer = 0;
  Layer::Kind kind = Layer::Kind::self;
  int64_t model_width = 0;                                // D
  int64_t num_kv_heads = 0, head_dim = 0, value_dim = 0;  // Hkv, d, dv
  Rotary rotary = Rotary::none;
  int64_t rotary_dim = 0;  // features of a head that turn
  bool interleaved = false;
  bool shares_heads = false;              // fewer kv heads than query heads
  std::string refusal_code{}, refusal{};  // SLIM_E_..., sentence; empty: some mode saves memory
  int shares_rows_with = -1;              // cross layers: the first of them, whose rows all read

  int64_t key_width() const { return num_kv_heads * head_dim; }     // e
  int64_t value_width() const { return num_kv_heads * value_dim; }  // e_v
  int64_t dense_width() const { return key_width() + value_width(); }
  bool saves() const { return refusal.empty(); }
  bool is_cross() const { return kind == Layer::Kind::cross; }
  bool reads_other_rows() const { return is_cross() && shares_rows_with != layer; }
  /// Columns of a row that hold keys as they are, in whole or, with partial rotation, the parts
  /// that turn; the other columns complete them.
  int64_t kept_keys() const {
    return rotary == Rotary::partial ? num_kv_heads * rotary_dim : key_width();
  }
  /// Numbers of the narrowest row that keys and values are an exact image of, for generic weights:
  /// x itself where nothing turns; else keys, completed to x's width where they are fewer.
  int64_t row_width() const;
};

/// How layer `layer` of a shape can be stored.  Refusals: SLIM_E_NO_SAVING, SLIM_E_NORM.
Site site_of(const ModelShape& shape, int layer);
/// Of all layers; the first one's refusal where none saves memory.
std::vector<Site> sites_of(const ModelShape& shape);

inline bool is_16_bit(Dtype dtype) { return dtype == Dtype::bf16 || dtype == Dtype::f16; }

}  // namespace kvlab::slim
