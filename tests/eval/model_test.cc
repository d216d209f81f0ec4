#include "eval/model.h"

#include <gmock/gmock.h>

#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string refusal(const Json& spec) {
  const std::string of_shape = error_of([&] { shape_of(spec); });
  EXPECT_EQ(error_of([&] { load_model(spec); }), of_shape) << "before and after the weights";
  return of_shape;
}

TEST(ModelSpec, NamesABuiltinModel) {
  const Json spec{{"builtin", "recall2"}, {"heads", 4}, {"kv_heads", 2}, {"dtype", "bfloat16"}};
  EXPECT_EQ(shape_of(spec).layers.at(0).num_kv_heads, 2);
  EXPECT_EQ(begin_token_of(spec), 0);
  const std::unique_ptr<Model> model = load_model(spec);
  EXPECT_EQ(model->dtype(), Dtype::bf16);
  EXPECT_EQ(model->shape().layers, shape_of(spec).layers);
  EXPECT_EQ(model->begin_token(), 0);
}

TEST(ModelSpec, IsOneOfTwoKinds) {
  EXPECT_THAT(refusal({{"dtype", "float32"}}),
              AllOf(StartsWith("E_CONFIG"), HasSubstr("`path`"), HasSubstr("`builtin`")));
  EXPECT_THAT(refusal({{"path", "a"}, {"builtin", "recall2"}}), StartsWith("E_CONFIG"));
  EXPECT_THAT(refusal("recall2"), StartsWith("E_CONFIG"));
  EXPECT_THAT(refusal({{"builtin", 2}}), StartsWith("E_CONFIG"));
  EXPECT_THAT(refusal({{"builtin", "recall"}}),
              AllOf(StartsWith("E_UNKNOWN"), HasSubstr("`recall2`")));
}

TEST(ModelSpec, SaysWhichKeyIsWrong) {
  EXPECT_THAT(refusal({{"builtin", "recall2"}, {"head", 2}}),
              AllOf(StartsWith("E_UNKNOWN"), HasSubstr("`heads`")));
  EXPECT_THAT(refusal({{"builtin", "recall2"}, {"heads", 0}}),
              AllOf(StartsWith("E_CONFIG"), HasSubstr("heads")));
  EXPECT_THAT(refusal({{"builtin", "recall2"}, {"heads", 3}, {"kv_heads", 2}}),
              AllOf(StartsWith("E_CONFIG"), HasSubstr("must divide")));
  EXPECT_THAT(refusal({{"builtin", "recall2"}, {"device", "cuda"}}),
              AllOf(StartsWith("E_CONFIG"), HasSubstr("device")));
}

TEST(ModelSpec, SaysInWhatNetworksRun) {
  for (const char* dtype : {"int8", "bfloat61", ""})
    EXPECT_THAT(refusal({{"builtin", "recall2"}, {"dtype", dtype}}),
                AllOf(StartsWith("E_CONFIG"), HasSubstr("float32"), HasSubstr("bfloat16"),
                      HasSubstr("float16")));
  EXPECT_THAT(refusal({{"path", "no/such/model"}, {"dtype", "int8"}}),
              AllOf(StartsWith("E_CONFIG"), HasSubstr("auto")));
}

TEST(ModelSpec, SaysWhenThereIsNoDirectory) {
  EXPECT_THAT(refusal({{"path", "no/such/model"}}),
              AllOf(StartsWith("E_FILE"), HasSubstr("no/such/model/config.json")));
}

}  // namespace
}  // namespace kvlab
