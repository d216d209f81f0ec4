#include "eval/models/recall2.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/eval/models/cached.h"
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
using test::repeated;
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
  const Mqar sample = repeated(3, 32, 12);
  const Tensor got = logits(sample.tokens);
  for (const Mqar::Label& label : sample.labels) EXPECT_EQ(best(got.view, label.row), label.token);
}

INSTANTIATE_TEST_SUITE_P(Layouts, Recall2,
                         testing::Values(Heads{1, 1}, Heads{2, 2}, Heads{4, 2}, Heads{4, 1}));

/// The same through a cache that holds keys and values in the run dtype.
class Recall2InACache : public testing::TestWithParam<Dtype> {
 protected:
  struct Heard {
    int right = 0;
    double mean_nll = 0;
  };
  Heard answers(const Mqar& sample, int64_t chunk) {
    const std::unique_ptr<Cache> cache = test::new_cache(*model_);
    const SeqId sequence = cache->add_sequence();
    const auto length = static_cast<int64_t>(sample.tokens.size());
    Heard heard;
    for (int64_t first = 0; first < length; first += chunk) {
      const int64_t n = std::min(chunk, length - first);
      PassRows rows;
      rows.add(sequence, first,
               std::span(sample.tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(n)),
               PassRows::Want::all);
      const Tensor got =
          forward_logits(*model_, *cache, rows.pass(ReadPolicy::raw_chunk, ChunkEnd::chunk));
      for (const Mqar::Label& label : sample.labels) {
        if (label.row < first || label.row >= first + n) continue;
        heard.right += best(got.view, label.row - first) == label.token ? 1 : 0;
        heard.mean_nll += nll(got.view, label.row - first, label.token) / std::ssize(sample.labels);
      }
    }
    return heard;
  }

  std::unique_ptr<Model> model_ = load_model({{"builtin", "recall2"},
                                              {"heads", 4},
                                              {"kv_heads", 2},
                                              {"dtype", std::string(name_of(GetParam()))}});
};

TEST_P(Recall2InACache, AnswersEveryQueryHoweverItIsFed) {
  const bool is_exact = GetParam() == Dtype::f32;
  for (const size_t context : {128, 4000}) {
    const Mqar sample = mqar_then_queries(7, 32, 8, context);
    for (const int64_t chunk : {4096, 512, 1}) {
      if (chunk == 1 && context > 128) continue;
      const Heard heard = answers(sample, chunk);
      EXPECT_EQ(heard.right, 8) << context << " tokens in chunks of " << chunk;
      // In 16 bits the answer's logit is 12 give or take a few roundings of 2^-9 each.
      EXPECT_NEAR(heard.mean_nll, kDenseNll, is_exact ? 6e-7 : kDenseNll / 2);
    }
  }
}

TEST_P(Recall2InACache, Copies) {
  const Mqar sample = repeated(3, 32, 12);
  for (const int64_t chunk : {64, 5, 1}) EXPECT_EQ(answers(sample, chunk).right, 11);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Recall2InACache,
                         testing::Values(Dtype::f32, Dtype::bf16, Dtype::f16),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

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
