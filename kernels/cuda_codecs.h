#pragma once
// Encoding and decoding rows on a CUDA device: from core's parts and placements to what the kernels
// of libkvlab_cuda.so take (kernels/cuda/codec_rows.h).  Nothing here needs CUDA but the launches.

#include <span>
#include <vector>

#include "core/engine.h"
#include "kernels/cuda/codec_rows.h"
#include "kernels/cuda_memory.h"

namespace kvlab {

/// cuda_library().codecs.  Work is queued on the stream; what `rows` points to has to live until it
/// is done.  type: CodecKernels::cuda_type.  E_UNSUPPORTED: no kernels for it.  E_DEVICE: the
/// launch failed; the message names kernel and shapes.
struct CudaCodecs {
  void (*run)(const char* type, CodecWay way, const CodecRows& rows, const CudaStream& stream);
  int (*count)();
  const char* (*type)(int codec);  // codec < count()
};

/// A stream of a page and a tensor [rows, units of all lists of a sequence, width], without runs.
/// E_UNSUPPORTED: a codec without kernels, rows that cannot be rotated, a dtype other than float32,
/// float16 and bfloat16.  E_SHAPE: features that are not contiguous.
struct CodecStream {
  const char* type = nullptr;
  CodecRows rows{};
};
CodecStream cuda_codec_stream(const StreamLayout& stream, const TensorView& rows);

/// Which tensor rows lie where; both arrays are to be copied to the device.
struct RowRuns {
  std::vector<RowRun> runs{};
  std::vector<int32_t> row_index{};
};
/// Placements that follow each other in slots of one page become one run.
RowRuns row_runs(const PartView& part, int stream, std::span<const Placement> where);

/// Bytes of device memory that have to move at least: the tensor's rows and the page's bytes.
int64_t codec_bytes_moved(const CodecRows& rows, int64_t count);

}  // namespace kvlab
