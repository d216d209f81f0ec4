#include "eval/run_sample.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "eval/footprint.h"
#include "eval/nll.h"
#include "eval/process.h"
#include "eval/retention.h"

namespace kvlab {
namespace {

class SampleRun {
 public:
  SampleRun(const Subject& subject, const Feeding& feeding, const Onlookers& onlookers)
      : subject_(subject),
        feeding_(feeding),
        onlookers_(onlookers),
        cache_(subject.model->shape(), *subject.composition, *subject.registry, subject.where),
        sequence_(cache_.add_sequence()) {
    if (onlookers_.companion != nullptr) onlookers_.companion->joins(cache_);
  }

  Outcome run(const Sample& sample) {
    Outcome outcome{.id = sample.id, .meta = sample.meta};
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
    source_ = sample.encoder_tokens;
    encode_source();
    feed(sample.context, feeding_.prefill_chunk, Phase::prefill);
    outcome_->timing.prefill_s = seconds_now() - begin - scoring_s_;
    outcome_->timing.prefill_tokens = tokens_;
    outcome_->timing.compress_s = cache_.storing_seconds();
    outcome_->timing.peak_rss_prefill = peak_resident_bytes();
    check_bytes(cache_);
    outcome_->after_prefill = footprint(cache_, sequence_, subject_.where.run_dtype);
    outcome_->retention = needle_retention(cache_, sequence_, sample.needles);
    if (tokens_ > 0) note_kernels(Phase::prefill);
    if (onlookers_.companion != nullptr) onlookers_.companion->prefilled(cache_, sequence_);
    attended_s_ = cache_.attending_seconds();

    reset_peak_resident();
    for (const Turn& turn : sample.turns) {
      if (sample.turns_restart) {
        in_a_fork(turn);
      } else {
        take_turn(turn);
      }
    }
    check_bytes(cache_);
    outcome_->end = footprint(cache_, sequence_, subject_.where.run_dtype);
    if (outcome_->decode_passes == 0) return;
    outcome_->timing.attend_s = cache_.attending_seconds() - attended_s_;
    outcome_->mean_decode_bytes = decode_bytes_ / static_cast<double>(outcome_->decode_passes);
    outcome_->timing.peak_rss_decode = peak_resident_bytes();
    note_kernels(Phase::decode);
  }

  void in_a_fork(const Turn& turn) {
    const SeqId context = sequence_;
    const int64_t tokens = tokens_, event = event_at_;
    sequence_ = turn.from_nothing ? cache_.add_sequence() : cache_.fork(context);
    if (turn.from_nothing) tokens_ = 0, event_at_ = kNoEvent;
    if (onlookers_.companion != nullptr) {
      using enum Companion::Branch;
      onlookers_.companion->branch(turn.from_nothing ? empty : fork);
    }
    if (turn.from_nothing) encode_source();
    held_ = cache_.payload(sequence_);
    take_turn(turn);
    cache_.drop(sequence_);
    if (onlookers_.companion != nullptr) onlookers_.companion->rejoin();
    sequence_ = context;
    tokens_ = tokens, event_at_ = event;
    unfed_.clear();
  }

  void take_turn(const Turn& turn) {
    const size_t scored = outcome_->nll.size();
    want_last_ = turn.max_new_tokens > 0;
    Fed query = with_labels({.ids = std::exchange(unfed_, {})});
    join(query, turn.query);
    const int64_t chunk =
        feeding_.query_chunk == 0 ? static_cast<int64_t>(query.ids.size()) : feeding_.query_chunk;
    feed(query, chunk, Phase::decode);
    if (turn.max_new_tokens > 0) generate(turn);
    want_last_ = false;
    outcome_->turn_scored.push_back(static_cast<int64_t>(outcome_->nll.size() - scored));
  }

  void generate(const Turn& turn) {
    const std::vector<int32_t> ends = subject_.model->end_tokens();
    std::vector<int32_t> made;
    double before = seconds_now();
    if (outcome_->timing.first_token_s < 0) outcome_->timing.first_token_s = before - started_;
    while (std::find(ends.begin(), ends.end(), next_) == ends.end()) {
      made.push_back(next_);
      if (static_cast<int64_t>(made.size()) == turn.max_new_tokens || is_stopped(turn, made)) {
        unfed_ = {next_};
        break;
      }
      feed(with_labels({.ids = {next_}}), 1, Phase::decode);
      const double now = seconds_now();
      outcome_->timing.steps_s.push_back(now - before);
      before = now;
    }
    if (subject_.tokenizer != nullptr) {
      outcome_->texts.push_back(subject_.tokenizer->decode(made));
      outcome_->texts.back().resize(end_of(outcome_->texts.back(), turn, made));
      if (turn.first_line) cut_to_first_line(outcome_->texts.back());
      outcome_->references.push_back(turn.references);
    }
    outcome_->generated.push_back(std::move(made));
    outcome_->answers.push_back(turn.answer);
  }

  /// Where a stop string begins after the first token's text; its size where none does.
  size_t end_of(const std::string& text, const Turn& turn, const std::vector<int32_t>& made) const {
    if (turn.stop.empty() || made.size() < 2) return text.size();
    const size_t first = subject_.tokenizer->decode(std::span(made).first(1)).size();
    size_t end = text.size();
    for (const std::string& stop : turn.stop) end = std::min(end, text.find(stop, first));
    return end;
  }

  static void cut_to_first_line(std::string& text) {
    text.erase(0, text.find_first_not_of('\n'));
    text.resize(std::min(text.find('\n'), text.size()));
  }

  bool is_stopped(const Turn& turn, const std::vector<int32_t>& made) const {
    if (turn.stop.empty()) return false;
    const std::string text = subject_.tokenizer->decode(made);
    return end_of(text, turn, made) < text.size();
  }

  /// Ahead of a sequence's first token, where the model has an encoder.
  void encode_source() {
    if (source_.empty()) return;
    const EncoderPass pass{.sequence = sequence_, .token_ids = source_, .read = feeding_.read};
    if (onlookers_.companion != nullptr) onlookers_.companion->before(pass);
    subject_.model->encode(cache_, pass);
    held_ = cache_.payload(sequence_);
    if (held_ != dense_run(0, std::ssize(source_))) note_event();
    if (onlookers_.fed) onlookers_.fed(std::ssize(source_));
  }

  int64_t dense_run(int64_t tokens, int64_t encoder_tokens) const {
    return dense_bytes_in(subject_.where.run_dtype, cache_.shape(), tokens, encoder_tokens);
  }

  /// Rows were stored otherwise than as they came.
  void note_event() {
    ++outcome_->compress_events;
    event_at_ = tokens_;
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
    if (onlookers_.companion != nullptr) onlookers_.companion->before(forward);
    const double begin = seconds_now(), scoring_before = scoring_s_;
    subject_.model->forward(cache_, forward, [&](int64_t first, TensorView block) {
      score(block, first, std::span(wanted).subspan(static_cast<size_t>(first)), fed, range.first);
    });
    tokens_ += range.size();
    finish_pass(phase, range.size(), seconds_now() - begin - (scoring_s_ - scoring_before));
    if (onlookers_.fed) onlookers_.fed(range.size());
  }

  void score(TensorView block, int64_t first, std::span<const int32_t> rows, const Fed& fed,
             int64_t offset) {
    const double begin = seconds_now();
    if (onlookers_.companion != nullptr) {
      std::vector<int32_t> labels;
      for (const int32_t row : rows.first(static_cast<size_t>(block.size(0))))
        labels.push_back(fed.labels[static_cast<size_t>(offset + row)]);
      onlookers_.companion->logits(first, block, labels);
    }
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
      outcome_->since_event.push_back(
          event_at_ == kNoEvent
              ? 0
              : static_cast<int32_t>(tokens_ + rows[static_cast<size_t>(i)] + 1 - event_at_));
      next_ = got.predicted;
    }
    scoring_s_ += seconds_now() - begin;
  }

  void finish_pass(Phase phase, int64_t tokens, double seconds) {
    const Footprint now = footprint(cache_, sequence_, subject_.where.run_dtype);
    const int64_t held = std::exchange(held_, cache_.payload(sequence_));
    if (held_ - held != dense_run(tokens, 0)) note_event();
    if (now.cache_bytes() > outcome_->peak.cache_bytes()) outcome_->peak = now;
    if (phase == Phase::prefill) return;
    ++outcome_->decode_passes;
    outcome_->decode_attends += std::ranges::count_if(
        cache_.shape().layers, [](const Layer& l) { return l.kind != Layer::Kind::tap; });
    decode_bytes_ += static_cast<double>(now.cache_bytes());
    outcome_->moved_bytes +=
        static_cast<double>(now.cache_bytes() + tokens * query_bytes_per_token());
    outcome_->timing.decode_s += seconds;
    outcome_->timing.decode_tokens += tokens;
    if (tokens == 1 && !want_last_) outcome_->timing.steps_s.push_back(seconds);
  }

  /// Queries and outputs of all layers.
  int64_t query_bytes_per_token() const {
    int64_t features = 0;
    for (const Layer& layer : cache_.shape().layers) {
      if (layer.kind == Layer::Kind::tap) continue;
      features += int64_t{layer.num_heads} * (layer.head_dim + layer.value_dim);
    }
    return features * size_of(subject_.where.run_dtype);
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
  const Onlookers& onlookers_;
  Cache cache_;
  SeqId sequence_;
  Outcome* outcome_ = nullptr;
  std::vector<KernelUse> kernels_{};
  std::span<const int32_t> source_{};  // what the encoder reads
  int64_t tokens_ = 0;                 // fed so far
  int64_t held_ = 0;                   // the sequence's payload after the newest pass
  static constexpr int64_t kNoEvent = -1;
  int64_t event_at_ = kNoEvent;   // tokens that had been fed at the last compression
  std::vector<int32_t> unfed_{};  // generated, and not yet in the cache
  double decode_bytes_ = 0;
  double attended_s_ = 0;  // before the first of them
  double started_ = 0, scoring_s_ = 0;
  bool want_last_ = false, any_scored_ = false;
  int32_t next_ = 0;  // arg max of the newest wanted row
};

}  // namespace

Outcome run_sample(const Subject& subject, const Sample& sample, const Feeding& feeding,
                   const Onlookers& onlookers) {
  SampleRun run(subject, feeding, onlookers);
  Outcome outcome = run.run(sample);
  if (onlookers.kernels != nullptr) *onlookers.kernels = run.kernels();
  return outcome;
}

}  // namespace kvlab
