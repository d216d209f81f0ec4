#include "eval/run_sample.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "core/error.h"
#include "eval/footprint.h"
#include "eval/nll.h"
#include "eval/process.h"

namespace kvlab {
namespace {

void append(std::vector<int32_t>& all, std::span<const int32_t> more) {
  all.insert(all.end(), more.begin(), more.end());
}

/// `fed` without its labels' gaps: as many labels as ids.
Fed with_labels(Fed fed) {
  fed.labels.resize(fed.ids.size(), kUnscored);
  fed.recall.resize(fed.ids.size(), 0);
  return fed;
}

void join(Fed& all, const Fed& more) {
  const Fed complete = with_labels(more);
  append(all.ids, complete.ids);
  append(all.labels, complete.labels);
  all.recall.insert(all.recall.end(), complete.recall.begin(), complete.recall.end());
}

/// The last `count` tokens of `fed`, taken away from it.
Fed split_off(Fed& fed, size_t count) {
  const auto cut = [&](auto& all) {
    auto tail = std::vector(all.end() - static_cast<std::ptrdiff_t>(count), all.end());
    all.resize(all.size() - count);
    return tail;
  };
  return {cut(fed.ids), cut(fed.labels), cut(fed.recall)};
}

/// Context and queries as they are fed: the query moves into the context where asked, and a turn
/// that generates from an empty query holds back the last token of the context, because its first
/// logits must come from the compressed cache.
Sample as_fed(const Sample& sample, const Feeding& feeding) {
  Sample fed = sample;
  fed.context = with_labels(fed.context);
  for (Turn& turn : fed.turns) turn.query = with_labels(turn.query);
  if (fed.turns.empty()) return fed;
  Turn& first = fed.turns.front();
  if (feeding.query_aware) {
    join(fed.context, first.query);
    first.query = {};
  }
  if (first.query.ids.empty() && first.max_new_tokens > 0 && !fed.context.ids.empty()) {
    first.query = split_off(fed.context, 1);
  }
  return fed;
}

class SampleRun {
 public:
  SampleRun(const Subject& subject, const Feeding& feeding, const Fedback& fed)
      : subject_(subject),
        feeding_(feeding),
        fed_(fed),
        cache_(subject.model->shape(), *subject.composition, *subject.registry, subject.where),
        sequence_(cache_.add_sequence()) {}

  Outcome run(const Sample& sample) {
    Outcome outcome{.id = sample.id};
    outcome_ = &outcome;
    started_ = seconds_now();
    try {
      phases(as_fed(sample, feeding_));
    } catch (const Error& error) {
      if (error.code() != "E_NONFINITE") throw;
      outcome.is_nan = true;
      outcome.nan_where =
          "position " + std::to_string(tokens_) + ": " + std::string(error.message());
    }
    return outcome;
  }

  const std::vector<KernelUse>& kernels() const { return kernels_; }

 private:
  enum class Phase { prefill, decode };

  void phases(const Sample& sample) {
    reset_peak_resident();
    const double begin = seconds_now();
    feed(sample.context, feeding_.prefill_chunk, Phase::prefill);
    outcome_->timing.prefill_s = seconds_now() - begin - scoring_s_;
    outcome_->timing.prefill_tokens = tokens_;
    outcome_->timing.compress_s = cache_.storing_seconds();
    outcome_->timing.peak_rss_prefill = peak_resident_bytes();
    check_bytes(cache_);
    outcome_->after_prefill = footprint(cache_, tokens_, subject_.where.run_dtype);
    if (tokens_ > 0) note_kernels(Phase::prefill);

    reset_peak_resident();
    for (const Turn& turn : sample.turns) {
      if (sample.turns_restart) {
        in_a_fork(turn);
      } else {
        take_turn(turn);
      }
    }
    check_bytes(cache_);
    outcome_->end = footprint(cache_, tokens_, subject_.where.run_dtype);
    if (passes_ == 0) return;
    outcome_->mean_decode_bytes = decode_bytes_ / static_cast<double>(passes_);
    outcome_->timing.peak_rss_decode = peak_resident_bytes();
    note_kernels(Phase::decode);
  }

  void in_a_fork(const Turn& turn) {
    const SeqId context = sequence_;
    const int64_t tokens = tokens_;
    sequence_ = cache_.fork(context);
    take_turn(turn);
    cache_.drop(sequence_);
    sequence_ = context;
    tokens_ = tokens;
  }

  void take_turn(const Turn& turn) {
    want_last_ = turn.max_new_tokens > 0;
    const int64_t chunk = feeding_.query_chunk == 0 ? static_cast<int64_t>(turn.query.ids.size())
                                                    : feeding_.query_chunk;
    feed(turn.query, chunk, Phase::decode);
    if (turn.max_new_tokens > 0) generate(turn);
    want_last_ = false;
  }

  void generate(const Turn& turn) {
    const std::vector<int32_t> ends = subject_.model->end_tokens();
    std::vector<int32_t> text;
    double before = seconds_now();
    if (outcome_->timing.first_token_s < 0) outcome_->timing.first_token_s = before - started_;
    while (std::find(ends.begin(), ends.end(), next_) == ends.end()) {
      text.push_back(next_);
      if (static_cast<int64_t>(text.size()) == turn.max_new_tokens) break;
      feed(with_labels({.ids = {next_}}), 1, Phase::decode);
      const double now = seconds_now();
      outcome_->timing.steps_s.push_back(now - before);
      before = now;
    }
    outcome_->generated.push_back(std::move(text));
    outcome_->answers.push_back(turn.answer);
  }

  /// In chunks of at most `chunk` tokens (0: all at once).
  void feed(const Fed& fed, int64_t chunk, Phase phase) {
    const auto all = static_cast<int64_t>(fed.ids.size());
    const int64_t step = chunk == 0 ? std::max<int64_t>(all, 1) : chunk;
    for (int64_t at = 0; at < all; at += step) {
      const int64_t end = std::min(at + step, all);
      const ChunkEnd why = phase == Phase::decode ? ChunkEnd::step
                           : end == all           ? ChunkEnd::prompt
                                                  : ChunkEnd::chunk;
      pass(fed, {at, end}, why, phase);
    }
  }

  void pass(const Fed& fed, Range range, ChunkEnd end, Phase phase) {
    const size_t rows = static_cast<size_t>(range.size());
    const auto part = [&](const std::vector<int32_t>& all) {
      return std::span(all).subspan(static_cast<size_t>(range.first), rows);
    };
    const auto labels = part(fed.labels);
    std::vector<int32_t> positions(rows), wanted;
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(tokens_));
    for (size_t i = 0; i < rows; ++i) {
      const bool last = want_last_ && static_cast<int64_t>(i + 1) == range.size() &&
                        range.last == static_cast<int64_t>(fed.ids.size());
      if (labels[i] != kUnscored || last) wanted.push_back(static_cast<int32_t>(i));
    }
    if (!wanted.empty() && !any_scored_) {
      any_scored_ = true;
      outcome_->first_scored_after_compress = outcome_->compress_events > 0;
    }
    const int32_t indptr[] = {0, static_cast<int32_t>(rows)};
    const Pass forward{.rows = {{&sequence_, 1}, indptr, positions},
                       .token_ids = part(fed.ids),
                       .read = feeding_.read,
                       .end = end,
                       .wanted = wanted};
    const double begin = seconds_now(), scoring_before = scoring_s_;
    subject_.model->forward(cache_, forward, [&](int64_t first, TensorView block) {
      score(block, std::span(wanted).subspan(static_cast<size_t>(first)), fed, range.first);
    });
    tokens_ += range.size();
    finish_pass(phase, range.size(), seconds_now() - begin - (scoring_s_ - scoring_before));
    if (fed_) fed_(range.size());
  }

  void score(TensorView block, std::span<const int32_t> rows, const Fed& fed, int64_t offset) {
    const double begin = seconds_now();
    for (int64_t i = 0; i < block.size(0); ++i) {
      const std::span logits(reinterpret_cast<const float*>(block.at(i)),
                             static_cast<size_t>(block.size(1)));
      const auto row = static_cast<size_t>(offset + rows[static_cast<size_t>(i)]);
      if (fed.labels[row] == kUnscored) {
        next_ = arg_max(logits);
        continue;
      }
      const TokenScore got = score_token(logits, fed.labels[row]);
      outcome_->nll.push_back(got.nll);
      outcome_->labels.push_back(fed.labels[row]);
      outcome_->predicted.push_back(got.predicted);
      outcome_->recall.push_back(fed.recall[row]);
      next_ = got.predicted;
    }
    scoring_s_ += seconds_now() - begin;
  }

  void finish_pass(Phase phase, int64_t tokens, double seconds) {
    const Footprint now = footprint(cache_, tokens_, subject_.where.run_dtype);
    if (now.payload != now.dense_run) ++outcome_->compress_events;
    if (now.cache_bytes() > outcome_->peak.cache_bytes()) outcome_->peak = now;
    if (phase == Phase::prefill) return;
    ++passes_;
    decode_bytes_ += static_cast<double>(now.cache_bytes());
    outcome_->timing.decode_s += seconds;
    outcome_->timing.decode_tokens += tokens;
    if (tokens == 1 && !want_last_) outcome_->timing.steps_s.push_back(seconds);
  }

  /// Which kernels the newest pass used, layers of one choice together.
  void note_kernels(Phase phase) {
    const std::string name = phase == Phase::prefill ? "prefill" : "decode";
    for (int i = 0; i < static_cast<int>(cache_.shape().layers.size()); ++i) {
      if (cache_.shape().layers[static_cast<size_t>(i)].kind == Layer::Kind::tap) continue;
      const Ran ran = cache_.ran(i);
      const auto same = [&](const KernelUse& use) {
        return use.phase == name && use.level == ran.level && use.kernel == ran.kernel &&
               use.reason == ran.reason;
      };
      auto use = std::find_if(kernels_.begin(), kernels_.end(), same);
      if (use == kernels_.end()) {
        use = kernels_.insert(use, {name, {}, ran.level, ran.kernel, ran.reason});
      }
      use->layers.push_back(i);
    }
  }

  const Subject& subject_;
  const Feeding& feeding_;
  const Fedback& fed_;
  Cache cache_;
  SeqId sequence_;
  Outcome* outcome_ = nullptr;
  std::vector<KernelUse> kernels_{};
  int64_t tokens_ = 0;  // fed so far
  int64_t passes_ = 0;  // after the prompt
  double decode_bytes_ = 0;
  double started_ = 0, scoring_s_ = 0;
  bool want_last_ = false, any_scored_ = false;
  int32_t next_ = 0;  // arg max of the newest wanted row
};

bool any_scored(const Fed& fed, int64_t from) {
  for (size_t i = static_cast<size_t>(from); i < fed.labels.size(); ++i) {
    if (fed.labels[i] != kUnscored) return true;
  }
  return false;
}

}  // namespace

Outcome run_sample(const Subject& subject, const Sample& sample, const Feeding& feeding,
                   std::vector<KernelUse>* kernels, const Fedback& fed) {
  SampleRun run(subject, feeding, fed);
  Outcome outcome = run.run(sample);
  if (kernels != nullptr) *kernels = run.kernels();
  return outcome;
}

Sample in_one_pass(const Sample& sample) {
  Sample joined{.id = sample.id, .context = with_labels(sample.context), .meta = sample.meta};
  for (const Turn& turn : sample.turns) join(joined.context, turn.query);
  return joined;
}

bool reads_compressed(const Sample& sample, const Feeding& feeding) {
  const Sample fed = as_fed(sample, feeding);
  const auto context = static_cast<int64_t>(fed.context.ids.size());
  const auto second_pass = [&](int64_t tokens, int64_t chunk) {
    if (feeding.read != ReadPolicy::raw_chunk) return int64_t{1};
    return chunk == 0 ? tokens : std::min(chunk, tokens);
  };
  if (any_scored(fed.context, second_pass(context, feeding.prefill_chunk))) return true;
  for (const Turn& turn : fed.turns) {
    const auto query = static_cast<int64_t>(turn.query.ids.size());
    const int64_t from = context > 0 ? 0 : second_pass(query, feeding.query_chunk);
    if (any_scored(turn.query, from) || (turn.max_new_tokens > 0 && context > 0)) return true;
  }
  return false;
}

}  // namespace kvlab
