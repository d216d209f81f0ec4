#include "eval/promises.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "eval/footprint.h"
#include "eval/process.h"

namespace kvlab {
namespace {

constexpr size_t kCausalTokens = 64;

/// The first tokens of a sample as one prompt in which each is asked for, but the last.
Sample short_prompt(const Sample& sample) {
  Fed fed = in_one_pass(sample).context;
  fed.ids.resize(std::min(fed.ids.size(), kCausalTokens));
  fed.labels.assign(fed.ids.begin() + (fed.ids.empty() ? 0 : 1), fed.ids.end());
  fed.labels.resize(fed.ids.size(), kUnscored);
  fed.recall.assign(fed.ids.size(), 0);
  return {.id = sample.id, .encoder_tokens = sample.encoder_tokens, .context = std::move(fed)};
}

}  // namespace

void check_causality(const Subject& subject, std::string_view who, const Sample& sample,
                     ReadPolicy read) {
  Sample prompt = short_prompt(sample);
  std::vector<int32_t>& ids = prompt.context.ids;
  if (ids.size() < 2 || !subject.composition->capabilities.deterministic) return;
  const Feeding at_once{.prefill_chunk = 0, .read = read};
  const Outcome before = run_sample(subject, prompt, at_once);
  const auto vocab = static_cast<int32_t>(subject.model->shape().vocab_size);
  const int32_t last = std::exchange(ids.back(), (ids.back() + 1) % vocab);
  const Outcome after = run_sample(subject, prompt, at_once);
  if (before.is_nan || after.is_nan) return;  // counted where the sample itself runs
  const auto [left, right] = std::ranges::mismatch(before.nll, after.nll);
  if (left == before.nll.end()) return;
  ids.back() = last;
  if (run_sample(subject, prompt, at_once).nll != before.nll) return;
  fail("E_READS_FUTURE", who, ": the score of token ", left - before.nll.begin() + 1,
       " changed when token ", ids.size() - 1, " behind it was replaced (read policy ",
       name_of(read), "): it reads the future, so none of its scores means anything; what is ",
       "stored of a token must depend on tokens up to it alone, or say causal_write = false");
}

void MemoryWatch::joins(Cache& cache) {
  heap_ = heap_bytes();
  scratch_ = cache.bytes().scratch;
}

void MemoryWatch::prefilled(const Cache& cache, SeqId sequence) {
  constexpr int64_t kUnnoticed = int64_t{8} << 20;
  const Footprint now = footprint(cache, sequence, run_dtype_);
  const int64_t kept = heap_bytes() - heap_ - std::max<int64_t>(now.scratch - scratch_, 0);
  const int64_t saved = now.dense_run - now.cache_bytes();
  if (saved <= 0) return;
  KVLAB_REQUIRE(kept <= kUnnoticed + saved / 2, "E_BYTES_MISMATCH", who_, ": after ", now.tokens,
                " tokens its cache counts ", now.cache_bytes(), " bytes where a dense one has ",
                now.dense_run, ", but the process holds ", kept,
                " bytes more outside of it; stages keep rows in streams, columns and states only");
}

std::optional<std::string> broken_exactness(const CellOutcome& cell, const CellOutcome& dense) {
  const bool is_single = cell.dtype == name_of(Dtype::f32);
  double sum = 0, count = 0;
  bool same_tokens = true;
  for (size_t i = 0; i < cell.samples.size(); ++i) {
    const Outcome &sample = cell.samples[i], &reference = dense.samples[i];
    if (sample.is_nan || reference.is_nan) continue;
    for (size_t t = 0; t < sample.nll.size(); ++t) {
      sum += std::abs(sample.nll[t] - reference.nll[t]);
      count += 1;
    }
    same_tokens &= sample.generated == reference.generated;
  }
  const double mean = count > 0 ? sum / count : 0;
  if (mean > (is_single ? 1e-4 : 0.05))
    return "its NLLs lie " + std::to_string(mean) + " from the dense run's on average";
  if (is_single && !same_tokens) return "it generates other tokens than the dense run";
  return std::nullopt;
}

}  // namespace kvlab
