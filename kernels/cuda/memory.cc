#include "kernels/cuda_memory.h"

#include "kernels/cuda/check.h"
#include "kernels/cuda/tables.h"

namespace kvlab {
namespace {

cudaStream_t stream_of(const CudaStream& s) { return static_cast<cudaStream_t>(s.stream); }

void* allocate(int device, int64_t bytes) {
  const OnDevice on(device);
  void* at = nullptr;
  check_cuda(cudaMalloc(&at, static_cast<size_t>(bytes)), "allocating ", bytes,
             " bytes on cuda:", device);
  return at;
}

void release(int device, void* at) {
  const OnDevice on(device);
  check_cuda(cudaFree(at), "releasing memory of cuda:", device);
}

void copy(void* to, const void* from, int64_t bytes, const CudaStream& s) {
  const OnDevice on(s.device);
  check_cuda(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream_of(s)),
             "copying ", bytes, " bytes from ", from, " to ", to);
}

void fill(void* to, uint8_t byte, int64_t bytes, const CudaStream& s) {
  const OnDevice on(s.device);
  check_cuda(cudaMemsetAsync(to, byte, static_cast<size_t>(bytes), stream_of(s)), "filling ", bytes,
             " bytes at ", to);
}

CudaStream make_stream(int device) {
  const OnDevice on(device);
  cudaStream_t made = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking),
             "making a stream of cuda:", device);
  return {device, made};
}

void release_stream(const CudaStream& s) {
  const OnDevice on(s.device);
  check_cuda(cudaStreamDestroy(stream_of(s)), "releasing a stream of cuda:", s.device);
}

void wait(const CudaStream& s) {
  const OnDevice on(s.device);
  check_cuda(cudaStreamSynchronize(stream_of(s)), "waiting for work queued on cuda:", s.device);
}

struct Event {
  cudaEvent_t event = nullptr;
  Event() { check_cuda(cudaEventCreate(&event), "making an event"); }
  ~Event() { cudaEventDestroy(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
};

float time(const CudaStream& s, void (*work)(void*), void* context) {
  const OnDevice on(s.device);
  const Event begin, end;
  check_cuda(cudaEventRecord(begin.event, stream_of(s)), "recording an event");
  work(context);
  check_cuda(cudaEventRecord(end.event, stream_of(s)), "recording an event");
  check_cuda(cudaEventSynchronize(end.event), "waiting for work queued on cuda:", s.device);
  float ms = 0;
  check_cuda(cudaEventElapsedTime(&ms, begin.event, end.event), "reading the time between events");
  return ms;
}

}  // namespace

const CudaMemory kCudaMemory{&allocate,    &release,        &copy, &fill,
                             &make_stream, &release_stream, &wait, &time};

}  // namespace kvlab
