#pragma once
// What a network looks like to a cache: its attention sites, read from the config file alone.

#include <cstdint>
#include <string>
#include <vector>

#include "core/types.h"

namespace kvlab {

/// Rotary embedding of one attention site.  Pair c of a head, c < rotary_dim / 2, turns by
/// position * inv_freq[c]; cos and sin are multiplied by `attention_factor` (YaRN; 1 otherwise).
/// half_split pairs (c, c + rotary_dim / 2), interleaved pairs (2c, 2c + 1); features from
/// rotary_dim on are left alone.  Angles are computed in double, cos and sin applied in float32.
struct Rope {
  enum class Style : u8 { none, half_split, interleaved };
  Style style = Style::none;
  int rotary_dim = 0;
  std::vector<double> inv_freq{};
  double attention_factor = 1.0;
  explicit operator bool() const { return style != Style::none; }
  bool operator==(const Rope&) const = default;
};

/// One place of a network that appends to a cache and attends over it.  A decoder block has one
/// (self), an encoder-decoder block two (self, cross), a recurrent block none; a tap only appends.
struct Layer {
  enum class Kind : u8 { self, cross, tap };
  enum class Norm : u8 { none, per_head, per_row };
  Kind kind = Kind::self;
  int block = 0;             // index of the network block it belongs to
  int num_heads = 0;         // H, query heads
  int num_kv_heads = 0;      // Hkv; query head h reads kv head h / (H / Hkv)
  int head_dim = 0;          // d of queries and keys
  int value_dim = 0;         // d of values
  double scale = 0;          // logits = scale * <q, k>
  double softcap = 0;        // logits = cap * tanh(logits / cap); 0: none
  int64_t window_left = -1;  // keys with position >= query - window_left are visible; -1: all
  Rope rope{};
  bool key_bias = false, value_bias = false, learned_sink = false;
  Norm qk_norm = Norm::none;
  std::vector<float> alibi_slopes{};  // [H]: logits += slope * (key position - query position)
  int distance_bias = 0;              // entries per head of the bias a layer is given (T5), 0: none
  bool operator==(const Layer&) const = default;
};

/// Recurrent state of one sequence: computed by the model (or a selector), kept by the cache.
struct StateSpec {
  std::string name{};
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> sizes{};
};

/// `layer` everywhere in kvlab is an index into `layers`.
struct ModelShape {
  std::string architecture{};  // "llama", "recall2", ...
  std::string fingerprint{};   // of the weights; rows of one fingerprint mean nothing to another
  int width = 0;               // D
  int64_t vocab_size = 0, max_positions = 0;
  std::vector<Layer> layers{};
  std::vector<StateSpec> states{};
};

/// Whether the network has an encoder, whose tokens cross layers store.
bool has_cross(const ModelShape& shape);

/// Bytes one token takes in a dense 16-bit cache: sum of Hkv (d + dv) 2 over the layers that append
/// it, self layers a decoder's token, cross layers an encoder's.
int64_t dense_bytes_per_token(const ModelShape& shape, Layer::Kind kind = Layer::Kind::self);
/// The yardstick of every compression ratio (specification: evaluation, section 8).
int64_t dense_bytes(const ModelShape& shape, int64_t tokens, int64_t encoder_tokens);

/// E_SHAPE with the first thing that does not fit: H % Hkv, dims, rotary_dim, slopes, ...
void check(const ModelShape& shape);

}  // namespace kvlab
