#pragma once
// A codec as core sees it: a name, the bytes its rows take, and a table of kernels core never
// calls.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/types.h"

namespace kvlab {

/// The bytes of rows of one width.  A plane holds `row_bytes` for each row (tile_bytes 0) or
/// `tile_bytes` for each whole tile of `tile_tokens` rows (row_bytes 0).
struct Encoded {
  struct Plane {
    int32_t row_bytes = 0, tile_bytes = 0;
    bool metadata = false;  // scales, minima: counted apart from payload
    bool operator==(const Plane&) const = default;
  };
  std::vector<Plane> planes{};
  int tile_tokens = 1;         // rows that are encoded together
  bool row_wise = true;        // a row can be moved or rewritten without its neighbours
  std::vector<Dtype> exact{};  // dtypes whose rows survive encode and decode bit for bit

  bool is_exact_for(Dtype dtype) const;
  int64_t payload_bytes_per_tile() const;
  int64_t metadata_bytes_per_tile() const;
  bool operator==(const Encoded&) const = default;
};

struct CodecKernels;  // kernels/codec_kernels.h: plain C functions, one table per instruction set

/// Registered by name.  A codec without kernels supplies the two row functions instead (Python); it
/// is read at level `materialised`.  Rows as they came are stored by the codec that has the name of
/// their dtype and no parameters: "float32", "float16", "bfloat16".
struct Codec {
  std::string name{};
  std::string bound{};   // one line: |x - decoded| <= ...
  std::string schema{};  // JSON of its parameters, see core/schema.h
  std::function<Encoded(int width, const Json& params)> layout{};
  std::function<const CodecKernels*(int width, const Json& params)> kernels{};
  /// rows float32 [n, width] <-> bytes u8 [n, row bytes of all planes]
  std::function<void(TensorView rows, TensorView bytes)> encode_rows{}, decode_rows{};
};

}  // namespace kvlab
