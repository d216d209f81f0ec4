#include "eval/models/weight_files.h"

#include <gmock/gmock.h>

#include <fstream>
#include <limits>

#include "tests/eval/models/values.h"
#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::error_of;
using test::random_tensor;
using test::value_at;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::vector<Tensor> some_tensors() {
  return {random_tensor("b", Dtype::f32, {3, 2}, 1), random_tensor("a", Dtype::bf16, {4}, 2),
          random_tensor("c", Dtype::f32, {100, 1000}, 3)};
}

void write_index(const std::filesystem::path& folder, const Json& weight_map) {
  std::ofstream(folder / "model.safetensors.index.json")
      << Json{{"metadata", {{"total_size", 1}}}, {"weight_map", weight_map}};
}

/// The same tensors over two shards and an index.
void write_shards(const std::filesystem::path& folder) {
  const std::vector<Tensor> all = some_tensors();
  write_safetensors(folder / "one.safetensors", std::span(all).first(1), {{"format", "pt"}});
  write_safetensors(folder / "two.safetensors", std::span(all).subspan(1), {});
  write_index(folder,
              {{"b", "one.safetensors"}, {"a", "two.safetensors"}, {"c", "two.safetensors"}});
}

TEST(WeightFiles, ReadsOneFileOrTheShardsOfAnIndex) {
  const test::Scratch single, sharded;
  write_safetensors(single / "model.safetensors", some_tensors(), {});
  write_shards(sharded.path());
  for (const test::Scratch* folder : {&single, &sharded}) {
    const WeightFiles files(folder->path());
    EXPECT_THAT(files.names(), ElementsAre("a", "b", "c"));
    for (const Tensor& want : some_tensors()) {
      const Tensor got = files.tensor(want.name);
      ASSERT_EQ(got.view.dtype, want.view.dtype);
      ASSERT_EQ(got.view.sizes, want.view.sizes);
      for (int64_t i = 0; i < want.view.numel(); ++i)
        ASSERT_EQ(value_at(got.view, i), value_at(want.view, i));
    }
  }
}

TEST(WeightFiles, KeepTheirMappingAsLongAsATensorLives) {
  const test::Scratch folder;
  write_safetensors(folder / "model.safetensors", some_tensors(), {});
  const Tensor tensor = WeightFiles(folder.path()).tensor("c");
  EXPECT_EQ(value_at(tensor.view, 99'999), value_at(some_tensors()[2].view, 99'999));
}

TEST(WeightFiles, HaveAFingerprintThatShardingDoesNotChange) {
  const test::Scratch single, sharded, changed;
  write_safetensors(single / "model.safetensors", some_tensors(), {{"written", "today"}});
  write_shards(sharded.path());
  const std::string want = WeightFiles(single.path()).fingerprint("salt");
  EXPECT_THAT(want, AllOf(StartsWith("fast:"), testing::SizeIs(37)));
  EXPECT_EQ(WeightFiles(sharded.path()).fingerprint("salt"), want);
  EXPECT_NE(WeightFiles(sharded.path()).fingerprint("other"), want);
  std::vector<Tensor> tensors = some_tensors();
  tensors[1].view.as<uint16_t>()[3] ^= 1;
  write_safetensors(changed / "model.safetensors", tensors, {});
  EXPECT_NE(WeightFiles(changed.path()).fingerprint("salt"), want);
}

TEST(WeightFiles, NameWhatIsMissing) {
  const test::Scratch folder;
  EXPECT_THAT(error_of([&] { WeightFiles{folder.path()}; }),
              AllOf(StartsWith("E_FILE"), HasSubstr("neither model.safetensors nor")));
  write_shards(folder.path());
  EXPECT_THAT(error_of([&] { WeightFiles(folder.path()).tensor("d"); }),
              AllOf(StartsWith("E_WEIGHT"), HasSubstr("has no tensor `d`")));
  write_index(folder.path(), {{"b", "three.safetensors"}});
  EXPECT_THAT(error_of([&] { WeightFiles{folder.path()}; }),
              AllOf(StartsWith("E_FILE"), HasSubstr("three.safetensors")));
  write_index(folder.path(), {{"x", "one.safetensors"}});
  EXPECT_THAT(error_of([&] { WeightFiles{folder.path()}; }),
              AllOf(StartsWith("E_WEIGHT"), HasSubstr("`x` is in one.safetensors, but it is not")));
}

TEST(WeightFiles, FollowNoShardNameOutOfTheirDirectory) {
  const test::Scratch folder;
  for (const char* name : {"../one.safetensors", "/etc/passwd", "a/b", "..", "", "a\\b"}) {
    write_index(folder.path(), {{"b", name}});
    EXPECT_THAT(error_of([&] { WeightFiles{folder.path()}; }),
                AllOf(StartsWith("E_FORMAT"), HasSubstr("no plain file name")))
        << name;
  }
  std::ofstream(folder / "model.safetensors.index.json") << "{\"weight_map\": [1]}";
  EXPECT_THAT(error_of([&] { WeightFiles{folder.path()}; }), StartsWith("E_FORMAT"));
}

class CheckFinite : public testing::TestWithParam<int64_t> {};

TEST_P(CheckFinite, NamesTheFirstElementThatIsNotANumber) {
  const int64_t at = GetParam();
  const Tensor singles = random_tensor("s", Dtype::f32, {700'000}, 1);
  const Tensor halves = random_tensor("h", Dtype::bf16, {700'000}, 2);
  check_finite(singles.view, "tensor `s`");
  check_finite(halves.view, "tensor `h`");
  singles.view.as<float>()[699'999] = std::numeric_limits<float>::quiet_NaN();
  singles.view.as<float>()[at] = -std::numeric_limits<float>::infinity();
  halves.view.as<uint16_t>()[at] = 0x7FC0;
  const std::string place = "element " + std::to_string(at) + " of 700000";
  EXPECT_THAT(error_of([&] { check_finite(singles.view, "tensor `s`"); }),
              AllOf(StartsWith("E_NONFINITE: tensor `s`"), HasSubstr(place)));
  EXPECT_THAT(error_of([&] { check_finite(halves.view, "tensor `h`"); }), HasSubstr(place));
}

INSTANTIATE_TEST_SUITE_P(Places, CheckFinite, testing::Values(0, 1, 350'001, 699'999));

TEST(CheckFiniteOf, TheLargestNumbersOfEachDtypePasses) {
  const Tensor single = make_tensor("s", Dtype::f32, {1});
  single.view.as<float>()[0] = std::numeric_limits<float>::max();
  const Tensor half = make_tensor("h", Dtype::f16, {2});
  half.view.as<uint16_t>()[0] = 0x7BFF;
  const Tensor brain = make_tensor("b", Dtype::bf16, {1});
  brain.view.as<uint16_t>()[0] = 0xFF7F;
  for (const Tensor* tensor : {&single, &half, &brain}) check_finite(tensor->view, "x");
  half.view.as<uint16_t>()[1] = 0x7C00;
  EXPECT_THAT(error_of([&] { check_finite(half.view, "x"); }), HasSubstr("element 1 of 2"));
}

}  // namespace
}  // namespace kvlab
