// Ten nats over twenty bytes and four words.

#include <gmock/gmock.h>

#include "eval/catalogue.h"

namespace kvlab {
namespace {

double value_of(const char* name, const Json& meta) {
  const Outcome outcome{.nll = {1, 2, 3, 4}, .meta = meta};
  const Metric& metric = catalogue().metric(name);
  return metric.finish(pooled(metric.shares(outcome, nullptr)));
}

TEST(Document, IsMeasuredPerByteAndPerWord) {
  const Json meta{{"bytes", 20}, {"words", 4}};
  EXPECT_NEAR(value_of("bits_per_byte", meta), 0.7213475, 1e-7);
  EXPECT_NEAR(value_of("byte_ppl", meta), 1.6487213, 1e-7);
  EXPECT_NEAR(value_of("word_ppl", meta), 12.1824940, 1e-7);
}

TEST(Document, SaysNothingOfATextOfUnknownSize) {
  const Outcome outcome{.nll = {1}};
  EXPECT_TRUE(catalogue().metric("word_ppl").shares(outcome, nullptr).empty());
}

}  // namespace
}  // namespace kvlab
