// Whole documents under a perplexity protocol.  Every scored token stands for the bytes of the text
// after those of the token before it, so that bytes and words add up to the document's where every
// token is scored.

#include <algorithm>

#include "core/error.h"
#include "core/schema.h"
#include "eval/catalogue.h"
#include "eval/tasks/file/task_file.h"
#include "eval/tasks/file/types.h"
#include "eval/unicode.h"

namespace kvlab::tasks::file {
namespace {

/// Where words begin, in bytes, ascending.
std::vector<int64_t> word_starts(const std::string& text) {
  std::vector<int64_t> starts;
  int64_t at = 0;
  bool inside = false;
  for (const char32_t c : code_points(text)) {
    if (!is_space(c) && !inside) starts.push_back(at);
    inside = !is_space(c);
    at += std::ssize(utf8({&c, 1}));
  }
  return starts;
}

/// A text as tokens, and where in it each of them ends.
struct Spelled {
  std::vector<int32_t> tokens{};
  std::vector<int64_t> ends{};
  std::vector<int64_t> words{};
};

Spelled spell(Tokenizer& tokenizer, const std::string& text) {
  TokenSpans spans = tokenizer.encode_spans(text, Tokenizer::Special::none);
  Spelled spelled{.tokens = std::move(spans.tokens), .words = word_starts(text)};
  int64_t end = 0;
  for (const Range& bytes : spans.bytes) spelled.ends.push_back(end = std::max(end, bytes.last));
  if (!spelled.ends.empty()) spelled.ends.back() = std::ssize(text);
  return spelled;
}

void put_ahead(Spelled& spelled, int32_t bos) {
  spelled.tokens.insert(spelled.tokens.begin(), bos);
  spelled.ends.insert(spelled.ends.begin(), 0);
}

/// Bytes and words that tokens [scored) stand for.
Json measure(const Spelled& spelled, Range scored) {
  const auto end_of = [&](int64_t tokens) {
    return tokens == 0 ? 0 : spelled.ends[static_cast<size_t>(tokens) - 1];
  };
  const int64_t begin = end_of(scored.first), end = end_of(scored.last);
  const auto words =
      std::ranges::lower_bound(spelled.words, end) - std::ranges::lower_bound(spelled.words, begin);
  return {{"bytes", end - begin}, {"words", words}};
}

class Reading {
 public:
  Reading(const Source& source, const TaskSetup& setup, Tokenizer& tokenizer)
      : source_(source), setup_(setup), tokenizer_(tokenizer) {
    given_ = parse_protocol(source.file.at("protocol").get<std::string>(), catalogue());
    protocol_ = &catalogue().protocol(given_.at("ppl").get<std::string>());
    given_.erase("ppl");
    given_ = Schema::parse(protocol_->schema, protocol_->name).complete(given_, source.name);
    const std::string asked = source.file.at("bos");
    const bool adds = !tokenizer.encode("", Tokenizer::Special::as_model).empty();
    bos_ = asked != "auto" ? bos_named(asked) : adds ? protocol_->text_bos : Bos::none;
    KVLAB_REQUIRE(bos_ == Bos::none || setup.begin_token >= 0, "E_CONFIG", source.name,
                  ": bos = ", name_of(bos_),
                  ", but the model names no BOS token; use \"bos\": \"none\"");
  }

  void read(size_t index, Made& made) {
    const Document& document = source_.docs[index];
    const Template text("text", source_.file.at("text").get<std::string>());
    Spelled spelled = spell(tokenizer_, text.fill(document));
    if (bos_ == Bos::text_start) put_ahead(spelled, setup_.begin_token);
    const Cut cut = cut_of(document, spelled);
    made.work.protocol = cut.label;
    made.work.metric_suffix = cut.metric_suffix;
    made.work.prefill_chunk = cut.prefill_chunk;
    made.work.query_chunk = cut.score_chunk;
    made.work.needs_raw_chunk = cut.needs_raw_chunk;
    for (size_t w = 0; w < cut.windows.size(); ++w) {
      const Window& window = cut.windows[w];
      KVLAB_REQUIRE(!window.prefixed || setup_.begin_token >= 0, "E_CONFIG", source_.name, ": ",
                    protocol_->name, " starts with a BOS token, but the model names none; use ",
                    "another protocol");
      Sample sample = window_sample(window, spelled.tokens, bos_, setup_.begin_token);
      sample.id = source_.file.at("task").get<std::string>() + "-" + std::to_string(index) +
                  (cut.windows.size() > 1 ? "/" + std::to_string(w) : "");
      sample.meta.update(measure(spelled, window.scored));
      made.samples.push_back(std::move(sample));
    }
  }

  Json facts() const { return {{"bos", name_of(bos_)}}; }

 private:
  Cut cut_of(const Document& document, const Spelled& spelled) const try {
    return protocol_->cut(given_, {std::ssize(spelled.tokens), setup_.shape->max_positions});
  } catch (const Error& error) {
    fail(error.code(), document.place, ": ", error.message());
  }

  const Source& source_;
  const TaskSetup& setup_;
  Tokenizer& tokenizer_;
  Json given_{};
  const Protocol* protocol_ = nullptr;
  Bos bos_ = Bos::none;
};

}  // namespace

Made make_perplexity(const Source& source, const TaskSetup& setup) {
  const std::shared_ptr<Tokenizer> tokenizer = setup.tokenizer();
  Reading reading(source, setup, *tokenizer);
  Made made{.work = {.facts = reading.facts(), .tokenizer_sha = tokenizer->sha256()}};
  for (size_t i = 0; i < source.docs.size(); ++i) reading.read(i, made);
  const std::vector<std::string> metrics = metrics_of(source.file, source.name);
  made.work.noise_floor = std::ranges::find(metrics, "noise_floor") != metrics.end();
  return made;
}

}  // namespace kvlab::tasks::file
