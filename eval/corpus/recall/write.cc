#include "eval/corpus/recall/write.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/error.h"
#include "core/files.h"
#include "core/schema.h"
#include "eval/catalogue.h"
#include "eval/corpus/recall/fit.h"
#include "eval/corpus/tokens.h"
#include "eval/synthetic/needle.h"

namespace kvlab::corpus {
namespace {

constexpr int32_t kFirstToken = 0;
// Samples of a task that are tried for a document: names and numbers take more tokens in some than
// in others, and not every one fits a short length.
constexpr int64_t kTriesOfTask = 8;
constexpr int64_t kSamplesOfTask = 1000000;

const Kind& kind_named(std::string_view name) {
  for (const Kind& kind : kinds())
    if (kind.name == name) return kind;
  fail("E_INTERNAL", "no kind ", name);
}

/// Three of five documents fill their length; the others are of any length from its half on, but
/// not below kShortest.
int64_t drawn_length(SplitMix64& random, int64_t length) {
  constexpr int64_t kShortest = 128;
  const bool is_full = random.below(5) < 3;
  const int64_t least = std::min(length, std::max(length / 2, kShortest));
  return is_full ? length : between(random, least, length);
}

/// A task of the harness at one length.
struct Harness {
  ModelShape shape{};
  Json params{};
  Work work{};
};

std::unique_ptr<Harness> harness_of(const RecallTask& task, int64_t length, const Config& config,
                                    const std::shared_ptr<Tokenizer>& tokenizer) {
  auto harness = std::make_unique<Harness>();
  const Task& known = catalogue().task(task.name);
  Json params = task.params;
  params["length"] = length;
  params["samples"] = kSamplesOfTask;
  harness->params = Schema::parse(known.schema(params), task.name).complete(params, task.name);
  harness->shape.vocab_size = config.vocabulary;
  harness->work = known.prepare({.params = &harness->params,
                                 .seed = config.seed,
                                 .shape = &harness->shape,
                                 .begin_token = kFirstToken,
                                 .tokenizer = [tokenizer] { return tokenizer; }});
  return harness;
}

Sample sample_that_fits(const Work& work, int64_t index) {
  for (int64_t i = index * kTriesOfTask;; ++i) {
    try {
      return work.sample(i);
    } catch (const Error& error) {
      if (error.code() != "E_HAYSTACK_TOO_SHORT" || i % kTriesOfTask == kTriesOfTask - 1) throw;
    }
  }
}

/// The sample as it reads when its answers have been given.
Marked answered(const Sample& sample, Tokenizer& tokenizer) {
  Marked made{.tokens = sample.context.ids};
  made.marks.assign(made.tokens.size(), 0);
  const auto add = [&](const std::vector<int32_t>& tokens, uint8_t mark) {
    made.tokens.insert(made.tokens.end(), tokens.begin(), tokens.end());
    made.marks.insert(made.marks.end(), tokens.size(), mark);
  };
  for (const Turn& turn : sample.turns) {
    add(turn.query.ids, 0);
    add(tokenizer.encode(" " + joined(turn.references, ", "), Tokenizer::Special::none), 1);
    add(tokenizer.encode(".", Tokenizer::Special::none), 0);
  }
  return made;
}

}  // namespace

struct RecallDocuments::Impl {
  uint64_t seed;
  int64_t length, vocabulary;
  std::shared_ptr<Tokenizer> tokenizer;
  const Source& source;
  std::string stream;
  std::vector<std::string> names{};
  std::vector<int64_t> weights{};
  std::vector<std::unique_ptr<Harness>> tasks{};  // of the last names

  size_t kind(int64_t index) const {
    SplitMix64 random = random_stream(seed, stream + "/kind", static_cast<uint64_t>(index));
    return weighted(random, weights);
  }
};

RecallDocuments::RecallDocuments(const Config& config, size_t place,
                                 std::shared_ptr<Tokenizer> tokenizer, const Source& source)
    : impl_(new Impl{.seed = config.seed,
                     .length = config.recall.lengths[place],
                     .vocabulary = config.vocabulary,
                     .tokenizer = std::move(tokenizer),
                     .source = source,
                     .stream = "recall/" + std::to_string(config.recall.lengths[place])}) {
  for (const auto& [name, shares] : config.recall.kinds) {
    impl_->names.push_back(name);
    impl_->weights.push_back(shares[place]);
  }
  for (const RecallTask& task : config.recall.tasks) {
    impl_->names.push_back(task.name);
    impl_->weights.push_back(task.shares[place]);
    impl_->tasks.push_back(task.shares[place] > 0
                               ? harness_of(task, impl_->length, config, impl_->tokenizer)
                               : nullptr);
  }
}

RecallDocuments::~RecallDocuments() = default;

const std::string& RecallDocuments::kind_of(int64_t index) const {
  return impl_->names[impl_->kind(index)];
}

Marked RecallDocuments::document(int64_t index) {
  const size_t kind = impl_->kind(index);
  const std::string& name = impl_->names[kind];
  const size_t kinds = impl_->names.size() - impl_->tasks.size();
  if (kind >= kinds) {
    const Work& work = impl_->tasks[kind - kinds]->work;
    KVLAB_REQUIRE(index < kSamplesOfTask / kTriesOfTask, "E_CONFIG", "recall: more than ",
                  kSamplesOfTask / kTriesOfTask, " documents of ", impl_->length,
                  " tokens; ask for fewer `tokens`");
    Marked made = answered(sample_that_fits(work, index), *impl_->tokenizer);
    KVLAB_REQUIRE(std::ssize(made.tokens) <= impl_->length, "E_CONFIG", "recall.tasks: ", name,
                  ": a sample with its answers takes ", made.tokens.size(), " tokens of ",
                  impl_->length, "; raise its `max_new_tokens`, which leaves room for them");
    return made;
  }
  SplitMix64 random = random_stream(impl_->seed, impl_->stream, static_cast<uint64_t>(index));
  const int64_t length = drawn_length(random, impl_->length) - 1;  // without the first token
  Marked made = name == "repeats"
                    ? repeats(random, length, impl_->vocabulary)
                    : fitted(*impl_->tokenizer, impl_->source, kind_named(name), random, length);
  made.tokens.insert(made.tokens.begin(), kFirstToken);
  made.marks.insert(made.marks.begin(), 0);
  return made;
}

std::vector<std::string> sample_texts(const Config& config) {
  constexpr int64_t kTokens = 512;
  const Source source;
  std::vector<std::string> texts;
  const auto all = kinds();
  for (int64_t i = 0; i < config.recall.tokenizer_documents; ++i) {
    SplitMix64 random = random_stream(config.seed, "recall/tokenizer", static_cast<uint64_t>(i));
    const Kind& kind = all[static_cast<size_t>(i) % all.size()];
    texts.push_back(kind.make(source, random, kTokens).text());
  }
  return texts;
}

Json write_recall(const Config& config, const std::shared_ptr<Tokenizer>& tokenizer,
                  const Source& source, const std::filesystem::path& out,
                  const std::function<void(int64_t done, int64_t all)>& progress) {
  const RecallConfig& recall = config.recall;
  const int64_t all = std::accumulate(recall.tokens.begin(), recall.tokens.end(), int64_t{0});
  int64_t done = 0;
  Json facts = Json::object();
  for (size_t place = 0; place < recall.lengths.size(); ++place) {
    if (recall.tokens[place] == 0) continue;
    RecallDocuments documents(config, place, tokenizer, source);
    const std::string length = std::to_string(recall.lengths[place]);
    AtomicFile tokens(out / ("recall-" + length + ".bin"));
    AtomicFile marks(out / ("recall-" + length + ".marks"));
    std::map<std::string, int64_t> kinds;
    int64_t written = 0, marked = 0, index = 0;
    for (; written < recall.tokens[place]; ++index) {
      const Marked made = documents.document(index);
      ++kinds[documents.kind_of(index)];
      tokens.write(token_bytes(made.tokens));
      marks.write(made.marks.data(), std::ssize(made.marks));
      written += std::ssize(made.tokens);
      marked += std::accumulate(made.marks.begin(), made.marks.end(), int64_t{0});
      progress(done + written, all);
    }
    tokens.commit();
    marks.commit();
    done += written;
    facts[length] = {
        {"documents", index}, {"tokens", written}, {"marked", marked}, {"kinds", kinds}};
  }
  return facts;
}

}  // namespace kvlab::corpus
