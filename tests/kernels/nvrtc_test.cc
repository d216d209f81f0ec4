#include "kernels/nvrtc.h"

#include <gmock/gmock.h>

#include <map>
#include <string>

#include "tests/kernels/codec_sources.h"
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

/// Every hook of a codec, in every width.
std::string use_of(const std::string& type, const std::string& kernel) {
  return "extern \"C\" __global__ void " + kernel + "(const " + type + R"(::Params p,
      kvlab::FloatRows rows, kvlab::Tile from, kvlab::MutableTile to, float* out, bool* fits) {
    using C = )" +
         type + R"(;
    const C::State state{};
    const int row = threadIdx.x;
    kvlab::store_f32<1>(out, C::decode<1>(p, from, row, 0, state));
    kvlab::store_f32<4>(out + 4, C::decode<4>(p, from, row, 0, state));
    kvlab::store_f32<8>(out + 8, C::decode<8>(p, from, row, 0, state));
    kvlab::store_f32<16>(out + 16, C::decode<16>(p, from, row, 0, state));
    *fits = C::encode(p, rows, to, row, 0) && C::planes(p).count > 0 && C::tile_rows(p) > 0;
  }
)";
}

TEST(Nvrtc, CompilesEveryCodec) {
  std::map<std::string, std::string> programs;  // of one header each
  for (const CodecSource& codec : kCodecSources) {
    std::string& text = programs[codec.header];
    if (text.empty()) text = "#include \"" + std::string(codec.header) + "\"\n";
    text += use_of(codec.type, "use_" + std::to_string(&codec - kCodecSources));
  }
  for (const auto& [header, text] : programs) expect_nvrtc_compiles("use of " + header, text);
}

TEST(Nvrtc, CompilesTheKernelsOfACodec) {
  expect_nvrtc_compiles("int4.cu", R"(
    #include "kernels/codecs/int.h"
    #include "kernels/cuda/codec_kernels.cuh"
    using namespace kvlab;
    template __global__ void kvlab::codec_kernel<EncodeChunk<IntToken<4>>>(
        const __grid_constant__ CodecRows, int, u8*, int64_t);
    template __global__ void kvlab::codec_kernel<DecodeChunk<IntToken<4>>>(
        const __grid_constant__ CodecRows, int, u8*, int64_t);
  )");
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
