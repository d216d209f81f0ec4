#include "eval/models/recall2.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/eval/models/defined_attention.h"
#include "tests/eval/models/mqar.h"
#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
using test::Mqar;
using test::mqar;
using test::mqar_then_queries;
using test::nll;
using test::value_at;
using testing::ElementsAre;
using testing::StartsWith;

// The answer's logit is 12, those of the 31 others 0.
const double kDenseNll = std::log(1 + 31 * std::exp(-12));

int32_t best(const TensorView& logits, int64_t row) {
  int32_t found = 0;
  for (int32_t v = 1; v < logits.size(1); ++v)
    if (value_at(logits, row * logits.size(1) + v) > value_at(logits, row * logits.size(1) + found))
      found = v;
  return found;
}

TEST(Mqar, IsTheWorkedExample) {
  const Mqar sample = mqar(7, 32, 4, 24);
  EXPECT_THAT(sample.tokens, ElementsAre(0, 7, 18, 3, 17, 8, 24, 12, 26, 12, 0, 0, 0, 7, 0, 0, 0, 8,
                                         0, 0, 0, 3, 0, 0));
  std::vector<std::pair<int64_t, int32_t>> labels;
  for (const Mqar::Label& label : sample.labels) labels.emplace_back(label.row, label.token);
  EXPECT_THAT(labels, ElementsAre(std::pair(9, 26), std::pair(13, 18), std::pair(17, 24),
                                  std::pair(21, 17)));
}

struct Heads {
  int heads, kv_heads;
};

class Recall2 : public testing::TestWithParam<Heads> {
 protected:
  Recall2() : Recall2(make_recall2({GetParam().heads, GetParam().kv_heads})) {}

  Tensor logits(std::span<const int32_t> tokens) const {
    return test::defined_logits(decoder_, shape_, tokens);
  }

  /// The longest takes seconds without a cache: once is enough.
  static std::vector<size_t> contexts() {
    if (GetParam().kv_heads < GetParam().heads / 2) return {128, 1024, 4000};
    return {128, 1024};
  }

  ModelShape shape_;
  Decoder decoder_;

 private:
  explicit Recall2(Network network)
      : shape_(shape_of(network.config)),
        decoder_(std::move(network.config), std::move(network.weights)) {}
};

TEST_P(Recall2, AnswersEveryQueryWithTheLossItWasBuiltFor) {
  for (const size_t context : contexts()) {
    const Mqar sample = mqar_then_queries(7, 32, 8, context);
    const Tensor got = logits(sample.tokens);
    double mean = 0;
    for (const Mqar::Label& label : sample.labels) {
      EXPECT_EQ(best(got.view, label.row), label.token) << "context " << context;
      mean += nll(got.view, label.row, label.token) / 8;
    }
    // 1.908e-4 was measured in double; float32 logits near 12 are good to 12 * 2^-22.
    EXPECT_NEAR(mean, kDenseNll, 6e-7) << "context " << context;
    EXPECT_NEAR(mean, 1.908e-4, 1e-7) << "context " << context;
  }
}

TEST_P(Recall2, AnswersTheWorkedExample) {
  const Mqar sample = mqar(7, 32, 4, 24);
  const Tensor got = logits(sample.tokens);
  for (const Mqar::Label& label : sample.labels) EXPECT_EQ(best(got.view, label.row), label.token);
}

TEST_P(Recall2, Copies) {
  // BOS, 12 distinct tokens, a separator, then the first of them: the others follow.
  std::vector<int32_t> tokens = SplitMix64(3).sample_range(2, 32, 12);
  const std::vector<int32_t> text = tokens;
  tokens.insert(tokens.begin(), 0);
  tokens.push_back(1);
  tokens.insert(tokens.end(), text.begin(), text.end() - 1);
  const Tensor got = logits(tokens);
  for (size_t i = 1; i < text.size(); ++i)
    EXPECT_EQ(best(got.view, static_cast<int64_t>(13 + i)), text[i]);
}

INSTANTIATE_TEST_SUITE_P(Layouts, Recall2,
                         testing::Values(Heads{1, 1}, Heads{2, 2}, Heads{4, 2}, Heads{4, 1}));

TEST(Recall2Spec, HasAShapeAndAFingerprintOfItsOwn) {
  const ModelShape shape = shape_of(recall2_config({.num_heads = 4, .num_kv_heads = 2}));
  EXPECT_EQ(shape.architecture, "recall2");
  EXPECT_EQ(shape.layers.size(), 2u);
  EXPECT_EQ(shape.vocab_size, 32);
  EXPECT_EQ(shape.max_positions, 4096);
  EXPECT_EQ(shape.layers[0].head_dim, 64);
  EXPECT_NE(shape.fingerprint,
            shape_of(recall2_config({.num_heads = 4, .num_kv_heads = 4})).fingerprint);
  EXPECT_THAT(error_of([] { recall2_config({.num_heads = 4, .num_kv_heads = 3}); }),
              StartsWith("E_CONFIG"));
}

}  // namespace
}  // namespace kvlab
