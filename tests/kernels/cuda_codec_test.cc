// The codecs' kernels on a CUDA device against the CPU engine: the same bytes, the same numbers.

#include <gmock/gmock.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/codec_kernels.h"
#include "kernels/cuda_library.h"
#include "tests/kernels/codec_trial.h"
#include "tests/kernels/pages.h"

namespace kvlab::test {
namespace {

using testing::HasSubstr;

TEST(CudaCodecStream, WhatADeviceCannotTakeIsRefusedWithItsReason) {
  const auto refusal = [](const StreamLayout& stream, const TensorView& rows) -> std::string {
    try {
      cuda_codec_stream(stream, rows);
    } catch (const Error& error) {
      return error.what();
    }
    return "taken";
  };
  float numbers[64] = {};
  const auto page = make_page_layout({stream("keys", 1, 24, "int4")}, {}, 16);
  const TensorView rows = dense_view(numbers, Dtype::f32, {1, 1, 24});
  EXPECT_EQ(refusal(page.streams[0], rows), "taken");

  const auto rotated = make_page_layout({stream("keys", 1, 24, "int4", "{}", true)}, {}, 16);
  EXPECT_THAT(refusal(rotated.streams[0], rows), HasSubstr("divides their width 24 is below 16"));
  EXPECT_THAT(refusal(page.streams[0], dense_view(numbers, Dtype::f64, {1, 1, 24})),
              HasSubstr("E_UNSUPPORTED: cuda: rows are float64"));
  EXPECT_THAT(refusal(page.streams[0], dense_view(numbers, Dtype::f32, {1, 1, 23})),
              HasSubstr("E_SHAPE: cuda: rows of stream `keys` must be [rows, units, 24]"));
  const Codec python{.name = "mine"};
  StreamLayout foreign = page.streams[0];
  foreign.codec = &python;
  EXPECT_THAT(refusal(foreign, rows), HasSubstr("codec mine of stream `keys` has no kernels"));
}

TEST(RowRuns, FollowSlotsAndEndWithPagesListsAndGaps) {
  const auto page = make_page_layout({stream("keys", 2, 8, "float32")}, {}, 16);
  Bytes memory(8 * page.bytes);
  PartView part{.page = &page, .lists_per_sequence = 2};
  for (int list = 0; list < 4; ++list)
    part.lists.push_back({.base = memory.data() + list * 2 * page.bytes, .stride = page.bytes});
  const std::vector<Placement> where{{5, 1, 14}, {3, 1, 15}, {4, 1, 16}, {0, 3, 17}, {1, 3, 19}};
  const RowRuns made = row_runs(part, 0, where);
  EXPECT_THAT(made.row_index, testing::ElementsAre(5, 3, 4, 0, 1));
  ASSERT_EQ(made.runs.size(), 4u);
  const RowRun& first = made.runs[0];
  EXPECT_EQ(first.page, part.lists[1].base);
  EXPECT_EQ(first.slot, 14);
  EXPECT_EQ(first.rows, 2);
  EXPECT_EQ(first.first_unit, 2);
  EXPECT_EQ(made.runs[1].page, part.lists[1].base + page.bytes);
  EXPECT_EQ(made.runs[1].slot, 0);
  EXPECT_EQ(made.runs[1].first, 2);
  EXPECT_EQ(made.runs[3].slot, 3);
  EXPECT_EQ(made.runs[3].rows, 1);
}

TEST(CodecBytesMoved, AreTheTensorsAndThePages) {
  void* nowhere = nullptr;
  const auto bytes = [&](const char* codec, const char* params, int64_t rows) {
    const auto page = make_page_layout({stream("keys", 2, 128, codec, params)}, {}, 64);
    return codec_bytes_moved(
        cuda_codec_stream(page.streams[0], dense_view(nowhere, Dtype::bf16, {1, 2, 128})).rows,
        rows);
  };
  EXPECT_EQ(bytes("int4", "{\"group\": 32}", 10), 10 * 2 * (256 + 64 + 16));
  EXPECT_EQ(bytes("bfloat24", "{}", 10), 10 * 2 * (256 + 384));
  EXPECT_EQ(bytes("int8", "{\"axis\": \"channel\", \"group\": 32}", 64),
            64 * 2 * (256 + 128) + 2 * 2 * 512);
}

#ifdef KVLAB_HAS_CUDA_OBJECT

TEST(CudaCodecs, AreThoseOfTheRegistry) {
  const CudaCodecs& cuda = *cuda_library().codecs;
  std::vector<std::string> types;
  for (int i = 0; i < cuda.count(); ++i) types.emplace_back(cuda.type(i));
  for (const CodecCase& c : codec_cases()) {
    const StreamLayout s = stream("keys", 1, c.width, c.codec, c.params);
    EXPECT_THAT(types, testing::Contains(s.codec->kernels(c.width, s.params)->cuda_type));
  }
}

TEST(CudaCodecs, AnUnknownTypeIsNamed) {
  try {
    cuda_library().codecs->run("kvlab::Nothing", CodecWay::encode, CodecRows{}, {});
    FAIL() << "ran";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E_UNSUPPORTED");
    EXPECT_THAT(error.what(), HasSubstr("no kernels of codec kvlab::Nothing"));
  }
}

class Device : public CodecRunner {
 public:
  Device() : memory_(*cuda_library().memory), stream_(memory_.make_stream(0)) {}
  ~Device() override {
    for (u8* at : kept_) memory_.release(stream_.device, at);
    memory_.release_stream(stream_);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  u8* upload(const void* bytes, int64_t size) override {
    u8* at = static_cast<u8*>(memory_.allocate(stream_.device, size));
    kept_.push_back(at);
    memory_.copy(at, bytes, size, stream_);
    return at;
  }
  void download(void* to, const u8* from, int64_t size) override {
    memory_.copy(to, from, size, stream_);
    memory_.wait(stream_);
  }
  void run(const char* type, CodecWay way, const CodecRows& rows) override {
    cuda_library().codecs->run(type, way, rows, stream_);
    memory_.wait(stream_);
  }

 private:
  const CudaMemory& memory_;
  CudaStream stream_;
  std::vector<u8*> kept_{};
};

// One test: a machine without a device skips once.
TEST(CudaDevice0, EncodesAndDecodesAsTheCpuDoes) {
  const CudaStatus status = cuda_status();
  if (status.devices.empty()) GTEST_SKIP() << "no CUDA device: " << status.problem;
  for (const CodecCase& c : codec_cases()) {
    SCOPED_TRACE(c.name());
    const CodecTrial trial(c);
    Device device;
    const auto cpu = trial.encode_on_cpu();
    const auto cuda = trial.encode_by(device);
    EXPECT_TRUE(same_bytes(cuda.pages, cpu.pages));
    EXPECT_EQ(cuda.refused, cpu.refused);
    const auto decoded_by_cpu = trial.decode_on_cpu(cpu.pages);
    EXPECT_TRUE(trial.same_rows(trial.decode_by(device, cpu.pages).rows, decoded_by_cpu.rows));
  }
}

#endif

}  // namespace
}  // namespace kvlab::test
