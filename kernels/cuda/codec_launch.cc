// Starts the codecs' kernels: geometry, shared memory, errors.

#include <algorithm>
#include <sstream>
#include <string>
#include <string_view>

#include "kernels/cuda/check.h"
#include "kernels/cuda/codec_table.h"
#include "kernels/cuda/tables.h"
#include "kernels/cuda_codecs.h"

namespace kvlab {
namespace {

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, device), "asking for attribute ",
             static_cast<int>(which), " of cuda:", device);
  return value;
}

/// "encode kernel of kvlab::IntToken<4>: 12 runs x 8 units x 128 features, bfloat16"
std::string text_of(const char* type, CodecWay way, const CodecRows& a) {
  constexpr const char* kDtypes[] = {"float32", "float16", "bfloat16"};
  std::ostringstream text;
  text << (way == CodecWay::encode ? "encode" : "decode") << " kernel of " << type << ": "
       << a.run_count << " runs x " << a.units << " units x " << a.width << " features, "
       << kDtypes[static_cast<int>(a.dtype)] << (a.hadamard_block > 0 ? ", rotated" : "");
  return text.str();
}

const CudaCodecKernels& kernels_of(std::string_view type) {
  for (int i = 0; i < cuda_codec_count(); ++i)
    if (type == cuda_codec(i).type) return cuda_codec(i);
  fail("E_UNSUPPORTED", "cuda: this build has no kernels of codec ", type,
       "; name it in kvlab_codecs() and build again, or use --device cpu");
}

/// Device memory for the blocks' workspaces, in the order of a stream.
class Spilled {
 public:
  Spilled(int64_t bytes, const CudaStream& stream, const std::string& what)
      : stream_(static_cast<cudaStream_t>(stream.stream)) {
    if (bytes == 0) return;
    check_cuda(cudaMallocAsync(&at_, static_cast<size_t>(bytes), stream_), what, ": allocating ",
               bytes, " bytes of workspace");
  }
  ~Spilled() {
    if (at_ != nullptr) cudaFreeAsync(at_, stream_);
  }
  Spilled(const Spilled&) = delete;
  Spilled& operator=(const Spilled&) = delete;
  u8* at() const { return static_cast<u8*>(at_); }

 private:
  cudaStream_t stream_;
  void* at_ = nullptr;
};

void run(const char* type, CodecWay way, const CodecRows& a, const CudaStream& stream) {
  const CudaCodecKernels& kernels = kernels_of(type);
  if (a.run_count == 0) return;
  const std::string what = text_of(type, way, a);
  const void* kernel = way == CodecWay::encode ? kernels.encode : kernels.decode;
  const OnDevice on(stream.device);

  const CodecChunks chunks = CodecChunks::of(a, way);
  const int64_t most_shared = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, stream.device);
  const bool spills = chunks.bytes > most_shared;
  const int64_t wanted =
      int64_t{spills ? 2 : 16} * attribute(cudaDevAttrMultiProcessorCount, stream.device);
  const auto blocks = static_cast<unsigned>(std::min(a.run_count * a.units, wanted));
  const size_t shared = spills ? 0 : static_cast<size_t>(chunks.bytes);
  if (shared > size_t{48} << 10)
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared)),
               what, ": taking ", shared, " bytes of shared memory");

  const Spilled spilled(spills ? blocks * chunks.bytes : 0, stream, what);
  CodecRows rows = a;
  int chunk = chunks.rows;
  u8* workspace = spilled.at();
  int64_t bytes = chunks.bytes;
  void* arguments[] = {&rows, &chunk, &workspace, &bytes};
  check_cuda(cudaLaunchKernel(kernel, dim3(blocks), dim3(kCodecThreads), arguments, shared,
                              static_cast<cudaStream_t>(stream.stream)),
             what, ", ", blocks, " blocks of ", kCodecThreads, " threads, ", shared,
             " bytes of shared memory");
}

int count() { return cuda_codec_count(); }
const char* type(int codec) { return cuda_codec(codec).type; }

}  // namespace

const CudaCodecs kCudaCodecs{&run, &count, &type};

}  // namespace kvlab
