#include "eval/corpus/baselines.h"

#include <cmath>
#include <numbers>

#include "core/error.h"
#include "eval/corpus/config.h"
#include "eval/corpus/ngram.h"
#include "eval/corpus/tokens.h"

namespace kvlab::corpus {
namespace {

struct Facts {
  int64_t vocabulary = 0, test_bytes = 0;
};

Facts facts_of(const std::filesystem::path& path) {
  const Json facts = read_json(path);
  KVLAB_REQUIRE(facts.is_object() && facts.value("schema", Json()) == kConfigSchema, "E_FORMAT",
                path.string(), ": is not written by `kvlab corpus build`");
  try {
    return {.vocabulary = facts.at("config").at("text").at("vocabulary"),
            .test_bytes = facts.at("text").at("test").at("bytes")};
  } catch (const Json::exception&) {
    fail("E_FORMAT", path.string(), ": has no vocabulary or no size of its test text; build it ",
         "again with `kvlab corpus build`");
  }
}

Json described(const char* model, const CrossEntropy& result, const Facts& facts) {
  const double nats = result.nats * static_cast<double>(result.tokens);
  return {{"model", model},
          {"tokens", result.tokens},
          {"nats", result.nats},
          {"perplexity", std::exp(result.nats)},
          {"bits_per_byte", nats / std::numbers::ln2 / static_cast<double>(facts.test_bytes)}};
}

}  // namespace

Json baselines(const std::filesystem::path& corpus, const RunObserver& observer) {
  const Facts facts = facts_of(corpus / "corpus.json");
  observer.step("reading the corpus");
  const auto train = read_tokens(corpus / "text-train.bin", facts.vocabulary);
  const auto test = read_tokens(corpus / "text-test.bin", facts.vocabulary);
  Json all = Json::array();
  all.push_back(described("unigram", cross_entropy(Unigram(train, facts.vocabulary), test), facts));
  observer.step("counting 5-grams");
  const KneserNey ngrams(train, facts.vocabulary, kBaselineOrder);
  all.push_back(described("5-gram", cross_entropy(ngrams, test), facts));
  return all;
}

}  // namespace kvlab::corpus
