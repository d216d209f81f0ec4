#include "kernels/nvrtc.h"

#include <gmock/gmock.h>

#include "tests/kernels/nvrtc_check.h"

namespace kvlab {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& text, const std::string& architecture) {
  try {
    compile_cuda({.name = "example.cu", .text = text}, architecture);
  } catch (const Error& error) {
    return error.what();
  }
  return "compiled";
}

TEST(Nvrtc, CompilesAKernelForEveryArchitectureOfTheCudaObject) {
  expect_nvrtc_compiles("axpy.cu", R"(
    #include <cuda_bf16.h>
    #include <cuda/std/cstdint>
    extern "C" __global__ void axpy(float a, const __nv_bfloat16* x, float* y) {
      const cuda::std::int64_t i = threadIdx.x;
      y[i] += a * __bfloat162float(x[i]);
    })");
}

TEST(Nvrtc, AnArchitectureIsReallyTheOneAskedFor) {
  const std::string only_hopper =
      "__global__ void k() { asm volatile(\"wgmma.fence.sync.aligned;\"); }";
  EXPECT_EQ(refusal(only_hopper, "sm_90a"), "compiled");
  EXPECT_THAT(refusal(only_hopper, "sm_80"), HasSubstr("wgmma"));
}

TEST(Nvrtc, AnErrorIsTheCompilersLog) {
  const std::string message = refusal("__global__ void k() { undeclared = 1; }", "sm_80");
  EXPECT_THAT(message, HasSubstr("E_FORMAT: nvrtc: example.cu does not compile for sm_80"));
  EXPECT_THAT(message, HasSubstr("example.cu(1): error: identifier \"undeclared\" is undefined"));
}

TEST(Nvrtc, WarningsAreReturned) {
  const NvrtcSource source{.name = "example.cu", .text = "__global__ void k() { int unused; }"};
  EXPECT_THAT(compile_cuda(source, "sm_80").warnings, HasSubstr("unused"));
}

TEST(Nvrtc, AnUnknownArchitectureIsNamed) {
  EXPECT_THAT(refusal("__global__ void k() {}", "sm_12"),
              HasSubstr("E_UNSUPPORTED: nvrtc: refused for sm_12"));
}

}  // namespace
}  // namespace kvlab
