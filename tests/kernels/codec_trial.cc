#include "tests/kernels/codec_trial.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>
#include <random>

#include "core/error.h"
#include "kernels/cpu_engine.h"
#include "tests/kernels/pages.h"

namespace kvlab::test {
namespace {

constexpr u8 kUntouched = 0xa5;

uint16_t bf16_of(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>(bits >> 16);  // any number near x will do
}
/// Normal numbers alone: near x for 2^-14 <= |x| < 65504, else the nearest of those.
uint16_t f16_of(float x) {
  const float size = std::clamp(std::abs(x), 0x1p-14f, 65503.0f);
  const uint32_t bits = std::bit_cast<uint32_t>(size) - (112u << 23);
  return static_cast<uint16_t>(bits >> 13 | (std::signbit(x) ? 0x8000u : 0u));
}

void store_number(u8* to, Dtype dtype, float x) {
  if (dtype == Dtype::f32) return static_cast<void>(std::memcpy(to, &x, 4));
  const uint16_t bits = dtype == Dtype::f16 ? f16_of(x) : bf16_of(x);
  std::memcpy(to, &bits, 2);
}

float extreme(int i) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kAll[] = {kNaN,  -kNaN,   kInfinity, -kInfinity, 65519.9f, 65520.0f,
                            -7e4f, 3e38f,   -3e38f,    6e-8f,      -3e-8f,   1e-40f,
                            -0.0f, 6.1e-5f, 2.0e-7f,   65504.0f};
  return kAll[static_cast<size_t>(i) % std::size(kAll)];
}

bool is_nan(const u8* at, Dtype dtype) {
  if (dtype == Dtype::f32) {
    float x;
    std::memcpy(&x, at, 4);
    return x != x;
  }
  uint16_t bits;
  std::memcpy(&bits, at, 2);
  return (bits & 0x7fff) > (dtype == Dtype::f16 ? 0x7c00 : 0x7f80);
}

std::vector<CodecCase> all_cases() {
  std::vector<CodecCase> cases;
  const auto add = [&](const std::string& codec, const std::string& params, int width) {
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16})
      for (const bool rotate : {false, true})
        if (!rotate || (width & -width) >= 16)
          cases.push_back({codec, params, width, dtype, rotate, false});
    cases.push_back({codec, params, width, Dtype::f32, false, true});
  };
  for (const char* codec : {"float32", "float16", "bfloat16", "float24", "bfloat24"})
    for (const int width : {1, 7, 48, 64, 131}) add(codec, "{}", width);
  for (const char* codec : {"int8", "int4", "int2"}) {
    for (const int group : {0, 32, 64})
      for (const int width : {8, 80, 128, 328})
        add(codec, "{\"group\": " + std::to_string(group) + "}", width);
    for (const int group : {16, 32})
      for (const int width : {8, 64, 96, 136})
        add(codec, "{\"axis\": \"channel\", \"group\": " + std::to_string(group) + "}", width);
  }
  add("int8", "{}", 37);  // no multiple of 8
  add("int8", "{\"axis\": \"channel\", \"group\": 16}", 37);
  add("int4", "{\"axis\": \"channel\", \"group\": 64}", 1024);  // a tile beyond shared memory
  return cases;
}

}  // namespace

std::string CodecCase::name() const {
  std::string name = codec + "_" + params + "_" + std::to_string(width) + "_" +
                     std::string(name_of(dtype)) + (rotate ? "_rotated" : "") +
                     (extremes ? "_extremes" : "");
  std::erase_if(name,
                [](char c) { return c != '_' && !std::isalnum(static_cast<unsigned char>(c)); });
  return name;
}

const std::vector<CodecCase>& codec_cases() {
  static const std::vector<CodecCase> cases = all_cases();
  return cases;
}

Bytes::Bytes(int64_t size, u8 fill)
    : size_(size),
      at_(static_cast<u8*>(::operator new(static_cast<size_t>(size), std::align_val_t{64}))) {
  std::memset(data(), fill, static_cast<size_t>(size));
}

bool same_bytes(const Bytes& a, const Bytes& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), static_cast<size_t>(a.size())) == 0;
}

CodecTrial::CodecTrial(const CodecCase& c) : case_(c) {
  // A stream before it, so that planes do not begin where the page does.
  std::vector<StreamLayout> streams{
      test::stream("keys", kUnits, c.width, c.codec, c.params, c.rotate),
      test::stream("other", 1, 5, "float32")};
  layout_ = make_page_layout(std::move(streams), {}, 32);
  ids_.resize(kSequences * kListsPerSequence * kPages);
  std::iota(ids_.begin(), ids_.end(), 0);
  std::shuffle(ids_.begin(), ids_.end(), std::mt19937_64(7));
  place();
}

void CodecTrial::add(int list, int64_t slot, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const int row =
        static_cast<int>(where_.size()) * 7 % kRows;  // in no order; 7 and 80 are coprime
    where_.push_back({row, list, slot + i});
  }
}

void CodecTrial::place() {
  const int64_t page = layout_.page_tokens, tile = stream().format.tile_tokens;
  if (tile == 1) {
    add(0, 5, page + 2);  // over a page's edge
    add(1, page - 1, 1);  // the last of a page
    add(1, 2 * page, 1);  // the first of one
    add(3, 4, 1);
    add(3, 6, 2);  // with a gap
    add(3, 3, 1);  // and back
  } else if (2 * tile <= kRows) {
    add(0, page - tile, tile);
    add(3, page, tile);
  } else {
    add(3, page, tile);
  }
}

PartView CodecTrial::part(const u8* pages) const {
  PartView part{.page = &layout_, .lists_per_sequence = kListsPerSequence};
  for (int list = 0; list < kSequences * kListsPerSequence; ++list)
    part.lists.push_back({.base = const_cast<u8*>(pages),
                          .stride = layout_.bytes,
                          .ids = ids_.data() + list * kPages,
                          .first = 0,
                          .last = kPages * layout_.page_tokens});
  return part;
}

TensorView CodecTrial::tensor(const u8* rows) const {
  TensorView view = dense_view(static_cast<const void*>(rows), case_.dtype,
                               {kRows, kListsPerSequence * kUnits, case_.width});
  view.strides = {row_elements(), unit_elements(), 1};
  return view;
}

Bytes CodecTrial::numbers() const {
  Bytes rows(tensor_bytes(), kUntouched);
  std::mt19937_64 random(11);
  std::normal_distribution<float> normal;
  const int64_t size = size_of(case_.dtype);
  for (int64_t i = 0; i < kRows * row_elements(); ++i) {
    const int64_t row = i / row_elements(), unit = i % row_elements() / unit_elements();
    float x = normal(random) * (row % 5 == 1 ? 1000.0f : 1.0f);
    if (row % 5 == 2) x = 0.125f * static_cast<float>(unit);  // constant
    if (case_.extremes && row % 3 == 0 && i % 11 == 0) x = extreme(static_cast<int>(i / 11));
    store_number(rows.data() + i * size, case_.dtype, x);
  }
  return rows;
}

CodecTrial::Result CodecTrial::encode_on_cpu() const {
  Result result{Bytes(page_bytes(), kUntouched), numbers()};
  const PartView to = part(result.pages.data());
  try {
    make_cpu_engine({.threads = 1})
        ->encode({.to = &to, .stream = 0, .rows = tensor(result.rows.data()), .where = where_});
  } catch (const Error& error) {  // after everything was written
    const std::string text = error.what();
    const size_t at = text.rfind("`: ") + 3;
    EXPECT_EQ(error.code(), "E_NONFINITE") << text;
    result.refused = std::stoll(text.substr(at));
  }
  return result;
}

CodecTrial::Result CodecTrial::decode_on_cpu(const Bytes& pages) const {
  Result result{Bytes(pages.size()), Bytes(tensor_bytes(), kUntouched)};
  std::memcpy(result.pages.data(), pages.data(), static_cast<size_t>(pages.size()));
  const PartView from = part(result.pages.data());
  make_cpu_engine({.threads = 1})
      ->decode({.from = &from, .stream = 0, .rows = tensor(result.rows.data()), .where = where_});
  return result;
}

CodecTrial::Result CodecTrial::encode_by(CodecRunner& runner) const {
  return run(runner, CodecWay::encode, Bytes(page_bytes(), kUntouched), numbers());
}
CodecTrial::Result CodecTrial::decode_by(CodecRunner& runner, const Bytes& pages) const {
  return run(runner, CodecWay::decode, pages, Bytes(tensor_bytes(), kUntouched));
}

CodecTrial::Result CodecTrial::run(CodecRunner& runner, CodecWay way, const Bytes& pages,
                                   const Bytes& rows) const {
  u8* there = runner.upload(pages.data(), pages.size());
  u8* tensor_there = runner.upload(rows.data(), rows.size());
  const RowRuns runs = row_runs(part(there), 0, where_);
  CodecStream call = cuda_codec_stream(stream(), tensor(tensor_there));
  const uint64_t zero = 0;
  u8* refused = runner.upload(&zero, sizeof zero);
  call.rows.runs = reinterpret_cast<const RowRun*>(
      runner.upload(runs.runs.data(), static_cast<int64_t>(runs.runs.size() * sizeof(RowRun))));
  call.rows.run_count = std::ssize(runs.runs);
  call.rows.row_index = reinterpret_cast<const int32_t*>(
      runner.upload(runs.row_index.data(), std::ssize(runs.row_index) * 4));
  call.rows.refused = reinterpret_cast<uint64_t*>(refused);
  runner.run(call.type, way, call.rows);

  Result result{Bytes(pages.size()), Bytes(rows.size())};
  runner.download(result.pages.data(), there, pages.size());
  runner.download(result.rows.data(), tensor_there, rows.size());
  runner.download(&result.refused, refused, sizeof zero);
  return result;
}

::testing::AssertionResult CodecTrial::same_rows(const Bytes& a, const Bytes& b) const {
  const int64_t size = size_of(case_.dtype);
  for (int64_t i = 0; i < a.size(); i += size) {
    const bool same = std::memcmp(a.data() + i, b.data() + i, static_cast<size_t>(size)) == 0 ||
                      (is_nan(a.data() + i, case_.dtype) && is_nan(b.data() + i, case_.dtype));
    if (!same)
      return ::testing::AssertionFailure()
             << "row " << i / size / row_elements() << ", element " << i / size % row_elements()
             << " of " << case_.name() << " (unit stride " << unit_elements() << ") differs";
  }
  return ::testing::AssertionSuccess();
}

}  // namespace kvlab::test
