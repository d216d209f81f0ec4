// Speed of the codecs' kernels on cuda:0, as shares of a device-to-device copy measured in the same
// process: what the roofline in kernels/cuda/codec_block.h is compared with.
//
//   cuda_codecs_bench [TOKENS]     default 131072: 8 units of 128 bfloat16 features, 256 MiB
//
// Exit code 77: there is no device.

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/page_layout.h"
#include "core/registry.h"
#include "kernels/codecs.h"
#include "kernels/cuda_codecs.h"
#include "kernels/cuda_library.h"

namespace kvlab {
namespace {

constexpr int kUnits = 8, kWidth = 128, kPageTokens = 64, kRepeats = 30;

struct Case {
  const char *codec, *params;
  bool rotate;
};
constexpr Case kCases[] = {{"float32", "{}", false},
                           {"float16", "{}", false},
                           {"bfloat16", "{}", false},
                           {"bfloat16", "{}", true},
                           {"bfloat24", "{}", false},
                           {"int8", "{\"group\": 32}", false},
                           {"int4", "{\"group\": 32}", false},
                           {"int4", "{\"group\": 32}", true},
                           {"int4", "{\"group\": 0}", false},
                           {"int2", "{\"group\": 32}", false},
                           {"int4", "{\"axis\": \"channel\", \"group\": 32}", false},
                           {"int2", "{\"axis\": \"channel\", \"group\": 64}", false}};

class Device {
 public:
  Device() : memory_(*cuda_library().memory), stream_(memory_.make_stream(0)) {}
  ~Device() {
    for (void* at : kept_) memory_.release(0, at);
    memory_.release_stream(stream_);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  u8* allocate(int64_t bytes) {
    kept_.push_back(memory_.allocate(0, bytes));
    return static_cast<u8*>(kept_.back());
  }
  template <class T>
  T* upload(const std::vector<T>& values) {
    const int64_t bytes = std::ssize(values) * static_cast<int64_t>(sizeof(T));
    T* at = reinterpret_cast<T*>(allocate(bytes));
    memory_.copy(at, values.data(), bytes, stream_);
    memory_.wait(stream_);
    return at;
  }
  void copy(void* to, const void* from, int64_t bytes) { memory_.copy(to, from, bytes, stream_); }
  const CudaStream& stream() const { return stream_; }

  /// Median milliseconds, after three runs that are not counted.
  float median(const std::function<void()>& work) {
    std::vector<float> times;
    for (int i = 0; i < kRepeats + 3; ++i) {
      const float ms = memory_.time(
          stream_, [](void* f) { (*static_cast<const std::function<void()>*>(f))(); },
          const_cast<std::function<void()>*>(&work));
      if (i >= 3) times.push_back(ms);
    }
    std::ranges::nth_element(times, times.begin() + kRepeats / 2);
    return times[kRepeats / 2];
  }

 private:
  const CudaMemory& memory_;
  CudaStream stream_;
  std::vector<void*> kept_{};
};

/// [tokens, kUnits, kWidth] bfloat16 on the device: a million random numbers, again and again.
u8* random_rows(Device& device, int64_t tokens) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> numbers(1 << 20);
  for (uint16_t& number : numbers) {
    const float x = normal(random);
    uint32_t bits = 0;
    std::memcpy(&bits, &x, 4);
    number = static_cast<uint16_t>(bits >> 16);
  }
  const int64_t bytes = tokens * kUnits * kWidth * 2, piece = std::ssize(numbers) * 2;
  u8* rows = device.allocate(bytes);
  const uint16_t* some = device.upload(numbers);
  for (int64_t at = 0; at < bytes; at += piece)
    device.copy(rows + at, some, std::min(piece, bytes - at));
  return rows;
}

void measure(const Registry& registry, const Case& c, int64_t tokens, double copy_gbs) {
  Device device;
  StreamLayout stream{.name = "keys", .units = kUnits, .width = kWidth};
  stream.codec = &registry.codec(c.codec);
  stream.params = registry.codec_schema(c.codec).complete(parse_json(c.params, "bench"), c.codec);
  stream.rotate_hadamard = c.rotate;
  stream.format = stream.codec->layout(kWidth, stream.params);
  const PageLayout page = make_page_layout({stream}, {}, kPageTokens);

  u8* rows = random_rows(device, tokens);
  PartView part{.page = &page};
  part.lists.push_back({.base = device.allocate(tokens / kPageTokens * page.bytes),
                        .stride = page.bytes,
                        .last = tokens});
  std::vector<Placement> where;
  for (int64_t t = 0; t < tokens; ++t) where.push_back({static_cast<int32_t>(t), 0, t});
  const RowRuns runs = row_runs(part, 0, where);
  CodecStream call =
      cuda_codec_stream(page.streams[0], dense_view(rows, Dtype::bf16, {tokens, kUnits, kWidth}));
  call.rows.runs = device.upload(runs.runs);
  call.rows.run_count = std::ssize(runs.runs);
  call.rows.row_index = device.upload(runs.row_index);
  const double bytes = static_cast<double>(codec_bytes_moved(call.rows, tokens));
  for (const CodecWay way : {CodecWay::encode, CodecWay::decode}) {
    const float ms = device.median(
        [&] { cuda_library().codecs->run(call.type, way, call.rows, device.stream()); });
    const double gbs = bytes / ms / 1e6;
    std::printf("%-9s %-36s %-8s %-7s %8.3f ms %8.0f GB/s %5.0f %% of a copy\n", c.codec, c.params,
                c.rotate ? "rotated" : "", way == CodecWay::encode ? "encode" : "decode", ms, gbs,
                100 * gbs / copy_gbs);
  }
}

double copy_speed(int64_t bytes) {
  Device device;
  u8 *from = device.allocate(bytes), *to = device.allocate(bytes);
  return 2.0 * static_cast<double>(bytes) / device.median([&] { device.copy(to, from, bytes); }) /
         1e6;
}

int run(int64_t tokens) {
  const CudaStatus status = cuda_status();
  if (status.devices.empty()) {
    std::fprintf(stderr, "cuda_codecs_bench: no CUDA device: %s\n", status.problem.c_str());
    return 77;
  }
  const CudaDevice device = require_cuda_device(status, 0);
  const double copy = copy_speed(tokens * kUnits * kWidth * 2);
  std::printf("%s, %d multiprocessors; %lld tokens x %d units x %d bfloat16; copy %.0f GB/s\n",
              device.name.c_str(), device.multiprocessors, static_cast<long long>(tokens), kUnits,
              kWidth, copy);
  Registry registry;
  register_codecs(registry);
  for (const Case& c : kCases) measure(registry, c, tokens, copy);
  return 0;
}

}  // namespace
}  // namespace kvlab

int main(int argc, char** argv) {
  try {
    const std::string_view given = argc > 1 ? argv[1] : "131072";
    int64_t tokens = 0;
    std::from_chars(given.data(), given.data() + given.size(), tokens);
    KVLAB_REQUIRE(tokens >= kvlab::kPageTokens && tokens % kvlab::kPageTokens == 0, "E_CONFIG",
                  "cuda_codecs_bench: TOKENS is a multiple of ", kvlab::kPageTokens);
    return kvlab::run(tokens);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
