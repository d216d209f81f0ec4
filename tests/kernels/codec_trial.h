#pragma once
// One encode and one decode of the same rows on the CPU and on a CUDA device (or its emulation):
// pages, a tensor and placements that visit page edges, tails, single rows and rows out of order.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/page_layout.h"
#include "kernels/cuda_codecs.h"

namespace kvlab::test {

struct CodecCase {
  std::string codec{}, params = "{}";
  int width = 0;
  Dtype dtype = Dtype::f32;
  bool rotate = false;
  bool extremes = false;  // some rows hold NaN, infinities, numbers beyond float16, subnormals

  std::string name() const;  // of a test
};

/// Every registered codec; widths with tails and without; every dtype; rotated where that can be.
const std::vector<CodecCase>& codec_cases();

/// Memory that begins at a multiple of 64.
class Bytes {
 public:
  explicit Bytes(int64_t size, u8 fill = 0);
  u8* data() { return at_.get(); }
  const u8* data() const { return at_.get(); }
  int64_t size() const { return size_; }

 private:
  struct Free {
    void operator()(u8* at) const { ::operator delete(at, std::align_val_t{64}); }
  };
  int64_t size_;
  std::unique_ptr<u8, Free> at_;
};

bool same_bytes(const Bytes& a, const Bytes& b);

/// What runs the kernels' bodies: the emulation, or a device.
class CodecRunner {
 public:
  virtual ~CodecRunner() = default;
  /// Memory the kernels can reach, with these bytes; as long as the runner lives.
  virtual u8* upload(const void* bytes, int64_t size) = 0;
  virtual void download(void* to, const u8* from, int64_t size) = 0;
  virtual void run(const char* type, CodecWay way, const CodecRows& rows) = 0;
};

class CodecTrial {
 public:
  explicit CodecTrial(const CodecCase& c);

  /// Whole buffers, so that what must not be touched is compared as well.
  struct Result {
    Bytes pages, rows;
    int64_t refused = 0;
  };
  Result encode_on_cpu() const;
  Result encode_by(CodecRunner& runner) const;
  /// `pages`: encoded ones.
  Result decode_on_cpu(const Bytes& pages) const;
  Result decode_by(CodecRunner& runner, const Bytes& pages) const;

  /// The same numbers, bit for bit but for what kind of NaN.
  ::testing::AssertionResult same_rows(const Bytes& a, const Bytes& b) const;

  const StreamLayout& stream() const { return layout_.streams[0]; }
  const std::vector<Placement>& where() const { return where_; }
  Bytes numbers() const;  // the tensor to encode

 private:
  static constexpr int kSequences = 2, kListsPerSequence = 2, kUnits = 2, kRows = 80;
  static constexpr int kPages = 3;  // of a list

  void place();
  void add(int list, int64_t slot, int64_t count);
  int64_t page_bytes() const { return layout_.bytes * kPages * kSequences * kListsPerSequence; }
  int64_t row_elements() const { return kListsPerSequence * kUnits * unit_elements(); }
  int64_t unit_elements() const { return case_.width + 3; }  // no unit begins where another ends
  int64_t tensor_bytes() const { return kRows * row_elements() * size_of(case_.dtype); }
  PartView part(const u8* pages) const;
  TensorView tensor(const u8* rows) const;
  Result run(CodecRunner& runner, CodecWay way, const Bytes& pages, const Bytes& rows) const;

  CodecCase case_;
  PageLayout layout_;
  std::vector<int32_t> ids_{};  // of pages, in no order
  std::vector<Placement> where_{};
};

}  // namespace kvlab::test
