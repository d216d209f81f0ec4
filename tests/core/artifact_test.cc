#include "core/artifact.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "core/files.h"
#include "core/safetensors.h"
#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::error_of;
using test::Scratch;
using testing::HasSubstr;
using testing::StartsWith;

Json header_for(const std::string& model) {
  return {{"method", "palu"},
          {"method_params", {{"rank", 64}}},
          {"model", model},
          {"note", "\xC3\xA9"}};
}

Artifact example() {
  std::vector<Tensor> tensors{make_tensor("up", Dtype::f32, {2, 3}),
                              make_tensor("rank", Dtype::i32, {4})};
  tensors[0].view.as<float>()[5] = 1.5F;
  tensors[1].view.as<int32_t>()[0] = 7;
  return Artifact(header_for("abc"), std::move(tensors));
}

TEST(MakeTensor, IsZeroedAlignedAndOwned) {
  const Tensor tensor = make_tensor("t", Dtype::f16, {3, 5});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.view.data) % 64, 0U);
  EXPECT_TRUE(tensor.view.is_contiguous());
  for (int i = 0; i < 15; ++i) EXPECT_EQ(tensor.view.as<uint16_t>()[i], 0);
  EXPECT_TRUE(make_tensor("empty", Dtype::f32, {0, 4}).view);
}

TEST(MakeTensor, SaysWhatDoesNotFitIntoMemory) {
  EXPECT_THAT(error_of([] { make_tensor("t", Dtype::f32, {int64_t{1} << 62}); }),
              StartsWith("E_MEMORY: tensor `t`: no memory for more than 2^63 bytes"));
  EXPECT_THAT(error_of([] { make_tensor("t", Dtype::u8, {INT64_MAX}); }), StartsWith("E_MEMORY: "));
}

TEST(Artifact, SurvivesSaveAndLoad) {
  const Scratch scratch;
  example().save(scratch / "a.safetensors");
  const Artifact loaded = Artifact::load(scratch / "a.safetensors");
  EXPECT_EQ(loaded.header(), header_for("abc"));
  EXPECT_EQ(loaded.tensor("up").as<float>()[5], 1.5F);
  EXPECT_EQ(loaded.tensor("up").size(1), 3);
  EXPECT_EQ(loaded.tensor("rank").as<int32_t>()[0], 7);
  EXPECT_TRUE(loaded.has("up"));
  EXPECT_FALSE(loaded.has("down"));
}

TEST(Artifact, TensorsOutliveIt) {
  const Scratch scratch;
  example().save(scratch / "a");
  std::vector<Tensor> tensors;
  {
    const Artifact loaded = Artifact::load(scratch / "a");
    tensors = loaded.tensors();
  }
  ASSERT_EQ(tensors.size(), 2U);
  EXPECT_EQ(tensors[1].name, "rank");
  EXPECT_EQ(tensors[1].view.as<int32_t>()[0], 7);
}

TEST(Artifact, NamesTheTensorsItHas) {
  const Artifact artifact = example();
  EXPECT_EQ(error_of([&] { artifact.tensor("ranks"); }),
            "E_WEIGHT: artifact of `palu`: has no tensor `ranks`; did you mean `rank`?");
  EXPECT_EQ(error_of([&] { artifact.tensor("codebook"); }),
            "E_WEIGHT: artifact of `palu`: has no tensor `codebook`; known: up, rank");
}

TEST(Artifact, RefusesAHeaderThatLacksWhatItNeeds) {
  for (const char* key : {"method", "method_params", "model"}) {
    Json header = header_for("abc");
    header.erase(key);
    EXPECT_THAT(error_of([&] { Artifact(header, {}); }),
                HasSubstr(std::string("needs `") + key + "`"));
    header[key] = 3;
    EXPECT_THAT(error_of([&] { Artifact(header, {}); }), StartsWith("E_FORMAT: "));
  }
  EXPECT_THAT(error_of([&] { Artifact(Json(), {}); }), StartsWith("E_FORMAT: "));
}

TEST(Artifact, RefusesASafetensorsFileThatIsNone) {
  const Scratch scratch;
  write_safetensors(scratch / "m", {}, {{"format", "pt"}});
  EXPECT_THAT(error_of([&] { Artifact::load(scratch / "m"); }), HasSubstr("no kvlab artifact"));
  write_safetensors(scratch / "m", {}, {{"kvlab_artifact", "{\"method\":"}});
  EXPECT_THAT(error_of([&] { Artifact::load(scratch / "m"); }),
              HasSubstr("m: kvlab_artifact: line 1, column "));
  EXPECT_THAT(error_of([&] { Artifact::load(scratch / "none"); }), StartsWith("E_FILE: "));
}

TEST(Artifact, IsForOneMethodAndOneModel) {
  const Artifact artifact = example();
  EXPECT_NO_THROW(artifact.check_for("palu", "abc"));
  EXPECT_EQ(error_of([&] { artifact.check_for("slim", "abc"); }),
            "E_STALE_ARTIFACT: artifact: was made by method `palu`, not by `slim`; run `kvlab "
            "prepare` again");
  EXPECT_EQ(error_of([&] { artifact.check_for("palu", "xyz"); }),
            "E_STALE_ARTIFACT: artifact of `palu`: was made for model abc, but this is model xyz; "
            "run `kvlab prepare` for this model");
}

}  // namespace
}  // namespace kvlab
