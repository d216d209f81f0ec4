#pragma once
// How fast attention over a codec's bytes is on this CPU, against the machine, against our own
// dense cache and against LibTorch, all measured in one process, interleaved.

#include <cstdint>
#include <string>

#include "core/json.h"
#include "core/registry.h"

namespace kvlab {

struct AttentionBench {
  /// A codec of keys and values; or a method whose rows and maps the bench takes, stored as the
  /// method says, else in bfloat16 (of one that needs an artifact: its example).
  std::string codec = "bfloat16";
  Json params = Json::object();  // of the codec or method
  bool rotate_hadamard = false;
  int heads = 32, kv_heads = 32, head_dim = 128;
  int64_t tokens = 16384;
  int batch = 1;
  int64_t queries = 1;  // newest tokens of each sequence; more than one: a prefill chunk, causal
  int threads = 2;
  std::string isa{};  // empty: the best there is
  int repeats = 15;
  bool warm = false;  // rows were just read; else other memory was, more than caches hold
  bool against_torch = true, against_dense = true;
};

/// Keys of the result, medians over the repeats:
///   ms, bytes_read, multiply_adds      of one attend over the codec
///   read_bandwidth_gbs, peak_gmacs     what the machine can do, measured beside it
///   roofline_ms                        max(bytes_read / bandwidth, multiply_adds / peak)
///   share_of_roofline                  roofline_ms / ms
///   ratio_to_dense, ratio_to_torch     above 1: faster than our bfloat16 cache, than the faster of
///                                      LibTorch's scaled_dot_product_attention and its matmul,
///                                      softmax, matmul; medians of the ratios of each repeat
///   isa, kernel, level, reason         what ran
///   caches                             "cold" or "warm"
/// E_CONFIG, E_UNKNOWN: shapes, codecs and parameters that do not exist.
Json bench_attention(const AttentionBench& bench, const Registry& registry);

/// A few lines for people.
std::string bench_attention_text(const Json& result);

}  // namespace kvlab
