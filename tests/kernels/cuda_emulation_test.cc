// The bodies of the codecs' CUDA kernels, block after block and thread after thread, against the
// CPU engine: the same bytes, the same numbers.

#define KVLAB_EMULATE_CUDA

#include <gmock/gmock.h>
#include <sys/mman.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <numeric>
#include <string_view>
#include <vector>

#include "kernels/codec_kernels.h"
#include "kernels/cuda/codec_block.h"
#include "kernels/isa.h"
#include "tests/kernels/all_codecs.h"
#include "tests/kernels/codec_trial.h"
#include "tests/kernels/pages.h"

namespace kvlab::test {
namespace {

using Body = void (*)(const CodecRows&, int chunk, int64_t block, int64_t blocks, u8* workspace);

struct EmulatedCodec {
  std::string_view type;
  Body encode, decode;
};
#define KVLAB_EMULATED(...)                                  \
  {#__VA_ARGS__, &run_codec_block<EncodeChunk<__VA_ARGS__>>, \
   &run_codec_block<DecodeChunk<__VA_ARGS__>>},
const EmulatedCodec kEmulated[] = {KVLAB_ALL_CODECS(KVLAB_EMULATED)};

class Emulation : public CodecRunner {
 public:
  explicit Emulation(int64_t blocks, bool reversed = false)
      : blocks_(blocks), reversed_(reversed) {}

  u8* upload(const void* bytes, int64_t size) override {
    Bytes& kept = kept_.emplace_back(size);
    std::memcpy(kept.data(), bytes, static_cast<size_t>(size));
    return kept.data();
  }
  void download(void* to, const u8* from, int64_t size) override {
    std::memcpy(to, from, static_cast<size_t>(size));
  }
  void run(const char* type, CodecWay way, const CodecRows& rows) override {
    for (const EmulatedCodec& codec : kEmulated) {
      if (codec.type != type) continue;
      const CodecChunks chunks = CodecChunks::of(rows, way);
      const Body body = way == CodecWay::encode ? codec.encode : codec.decode;
      misaligned_accesses = 0;
      emulated_order_is_reversed = reversed_;
      for (int64_t block = 0; block < blocks_; ++block) {
        Bytes workspace(chunks.bytes, 0xff);  // NaN: nothing is read before it was written
        body(rows, chunks.rows, block, blocks_, workspace.data());
      }
      EXPECT_EQ(misaligned_accesses, 0);
      return;
    }
    FAIL() << type << " is not among the codecs kvlab_codecs() was told of";
  }

 private:
  int64_t blocks_;
  bool reversed_;
  std::deque<Bytes> kept_{};
};

class EmulatedCodecs : public testing::TestWithParam<CodecCase> {};

TEST_P(EmulatedCodecs, EncodeAndDecodeAsTheCpuDoes) {
  const CodecTrial trial(GetParam());
  const auto cpu = trial.encode_on_cpu();
  Emulation one_block(1);
  const auto cuda = trial.encode_by(one_block);
  EXPECT_TRUE(same_bytes(cuda.pages, cpu.pages));
  EXPECT_EQ(cuda.refused, cpu.refused);

  const auto decoded_by_cpu = trial.decode_on_cpu(cpu.pages);
  const auto decoded = trial.decode_by(one_block, cpu.pages);
  EXPECT_TRUE(trial.same_rows(decoded.rows, decoded_by_cpu.rows));
  EXPECT_TRUE(same_bytes(decoded.pages, cpu.pages)) << "decode wrote to a page";
}

TEST_P(EmulatedCodecs, NeitherTheNumberOfBlocksNorTheOrderOfThreadsMatters) {
  const CodecTrial trial(GetParam());
  Emulation one(1), three_reversed(3, true);
  const auto a = trial.encode_by(one), b = trial.encode_by(three_reversed);
  EXPECT_TRUE(same_bytes(a.pages, b.pages));
  EXPECT_EQ(a.refused, b.refused);
  const auto x = trial.decode_by(one, a.pages), y = trial.decode_by(three_reversed, a.pages);
  EXPECT_TRUE(trial.same_rows(x.rows, y.rows));
}

INSTANTIATE_TEST_SUITE_P(All, EmulatedCodecs, testing::ValuesIn(codec_cases()),
                         [](const auto& instance) { return instance.param.name(); });

// --- the pieces --------------------------------------------------------------------------------

/// The 256 float16 from `first` on, as a CPU's codec reads them: in hardware where it can.
std::vector<float> halves_on_cpu(const CodecKernels& kernels, Isa isa, int first) {
  std::vector<uint16_t> bits(256);
  std::iota(bits.begin(), bits.end(), static_cast<uint16_t>(first));
  std::vector<float> numbers(256);
  DecodeTile decode{};
  decode.part.params = kernels.params;
  decode.part.rows = decode.part.tile.rows = 1;
  decode.part.features = 256;
  decode.part.tile.plane[0] = reinterpret_cast<const u8*>(bits.data());
  decode.to = numbers.data();
  decode.stride = 256;
  kernels.table[static_cast<size_t>(isa)]->decode(decode);
  return numbers;
}

TEST(CudaVectors, ConvertHalvesAsEveryCpuDoes) {
  const StreamLayout stream = test::stream("keys", 1, 256, "float16");
  const CodecKernels& kernels = *stream.codec->kernels(256, stream.params);
  for (const Isa isa : usable_isas())
    for (int first = 0; first < 65536; first += 256) {
      const std::vector<float> want = halves_on_cpu(kernels, isa, first);
      for (int i = 0; i < 256; ++i) {
        const auto bits = static_cast<uint16_t>(first + i);
        const bool is_nan = (bits & 0x7fff) > 0x7c00;
        const float x = want[static_cast<size_t>(i)];
        EXPECT_EQ(float_bits(half_value(bits)), float_bits(x)) << bits << name_of(isa);
        EXPECT_EQ(half_bits(x), is_nan ? bits | 0x200 : bits);
      }
    }
}

TEST(CudaVectors, RoundToTheNearestHalfAndTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = half_value(static_cast<uint16_t>(bits));
    const float high = half_value(static_cast<uint16_t>(bits + 1)), middle = low + (high - low) / 2;
    const uint16_t even = static_cast<uint16_t>(bits % 2 == 0 ? bits : bits + 1);
    EXPECT_EQ(half_bits(middle), even);
    EXPECT_EQ(half_bits(std::nextafter(middle, 0.0f)), bits);
    EXPECT_EQ(half_bits(std::nextafter(middle, 1e6f)), bits + 1);
    EXPECT_EQ(half_bits(-middle), even | 0x8000);
  }
  EXPECT_EQ(half_bits(65519.0f), 0x7bff);
  EXPECT_EQ(half_bits(65520.0f), 0x7c00);
}

TEST(CudaVectors, AMisalignedAccessIsCounted) {
  alignas(16) float numbers[8] = {};
  misaligned_accesses = 0;
  load_f32<4>(numbers + 1);  // by single numbers
  EXPECT_EQ(misaligned_accesses, 0);
  load_as<float>(reinterpret_cast<u8*>(numbers) + 2);
  EXPECT_EQ(misaligned_accesses, 1);
}

TEST(CodecChunks, AChunkIsATileOrAsManyRowsAsLeaveRoomForSevenBlocks) {
  CodecRows a{};
  a.planes = 1;
  a.width = 128;
  a.plane[0].row_bytes = 128;
  EXPECT_EQ(CodecChunks::of(a, CodecWay::encode).rows, 32);
  EXPECT_LE(CodecChunks::of(a, CodecWay::encode).bytes, 32 << 10);
  EXPECT_EQ(CodecChunks::of(a, CodecWay::decode).bytes, 0);
  a.width = 16384;
  EXPECT_EQ(CodecChunks::of(a, CodecWay::encode).rows, 1);
  a.tile_log2 = 5;
  EXPECT_EQ(CodecChunks::of(a, CodecWay::encode).rows, 32);
}

TEST(CodecStrides, ReachBeyond32Bits) {
  // Two rows of one unit 2^34 bytes apart, in address space that is reserved and almost unused.
  const int64_t far = int64_t{1} << 32;  // elements
  void* range = mmap(nullptr, static_cast<size_t>(far) * 4 + 4096, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(range, MAP_FAILED);
  float* rows = static_cast<float*>(range);
  rows[0] = 1.0f;
  rows[far] = 2.0f;
  alignas(16) u8 page[64] = {};
  const FloatParams params{1};
  CodecRows a{};
  a.planes = a.width = a.units = 1;
  a.rows = static_cast<u8*>(range);
  a.row_stride = far;
  std::memcpy(a.params, &params, sizeof params);
  a.plane[0].row_bytes = 4;
  const RowRun run{.page = page, .first = 0, .slot = 3, .rows = 2, .first_unit = 0};
  const int32_t index[] = {0, 1};
  a.runs = &run;
  a.run_count = 1;
  a.row_index = index;
  alignas(16) u8 workspace[4096];
  run_codec_block<EncodeChunk<Fp32>>(a, 64, 0, 1, workspace);
  EXPECT_EQ(load_as<float>(page + 12), 1.0f);
  EXPECT_EQ(load_as<float>(page + 16), 2.0f);
  munmap(range, static_cast<size_t>(far) * 4 + 4096);
}

}  // namespace
}  // namespace kvlab::test
