#pragma once
// What one layer stores instead of keys and values, and the maps that give them back.

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/artifact.h"
#include "methods/slim/site.h"

namespace kvlab::slim {

/// How a layer is stored (README, "Modes").
enum class Mode : u8 {
  dense,             // keys and values as they are
  keys,              // K-cache: the key row, values through W_KV
  keys_shaped,       // its rounding error steered away from what values see
  keys_side,         // beside it the strongest directions of the error of the values
  keys_shaped_side,  // both
  keys_basis,        // both, keys of a head in the basis of their principal directions
  keys24,            // keys in 24 bits
  input,             // X-cache: x itself; nothing may turn between projection and score
  klt                // keys in the basis of their principal directions; likewise
};
std::string_view name_of(Mode mode);
Mode mode_named(std::string_view name);  // E_UNKNOWN
bool has_side(Mode mode);                // stores side rows
bool shapes_rounding(Mode mode);

/// All float32 and contiguous; tensors a mode does not need are undefined.  In row-vector terms:
///   row   = round(x rows)              [w]     (rows undefined: round(x))
///   side  = round(x side_input - row side_row)  [r]
///   value of head h = value_up[h] row + side_up[h] side + value_bias[h]
///   key of head h   = key_up[h] row + key_bias[h], or, keys_are_slices, the same of the head's own
///                     d features of the row (key_up undefined: those features as they are)
struct Factors {
  Mode mode = Mode::dense;
  bool keys_are_slices = true;
  at::Tensor rows{};                    // F [D, w]
  at::Tensor shaping{};                 // L [w, w], unit lower triangular
  at::Tensor side_input{}, side_row{};  // [D, r], [w, r]
  at::Tensor key_up{}, key_bias{};      // [Hkv, d, w or d], [Hkv, d]
  at::Tensor value_up{}, value_bias{};  // [Hkv, dv, w], [Hkv, dv]
  at::Tensor side_up{};                 // [Hkv, dv, r]

  int64_t width() const { return value_up.size(2); }
  int64_t side() const { return side_up.defined() ? side_up.size(2) : 0; }
  bool is_24_bit() const { return mode == Mode::keys24; }
};

/// The row is the key row that the model computes anyway: no projection of its own is needed.
bool takes_keys(const Factors& factors, const Site& site);

/// Tensors "LAYER.rows", "LAYER.value_up", ... of an artifact.
void put(const Factors& factors, int layer, std::vector<Tensor>& tensors);
Factors factors_of(const Artifact& artifact, int layer, Mode mode, bool keys_are_slices);

}  // namespace kvlab::slim
