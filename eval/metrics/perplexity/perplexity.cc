// Negative log-likelihoods of the scored tokens, and how far they lie from those of the dense run
// on the same tokens, pair by pair.

#include <cmath>
#include <limits>
#include <numeric>

#include "eval/catalogue.h"

namespace kvlab::metrics::perplexity {
namespace {

std::vector<Share> nll(const Outcome& sample, const Outcome*) { return token_blocks(sample.nll); }

/// A window's mean, weighted by one token less than the window reached anew.
std::vector<Share> nll_compat_hf(const Outcome& sample, const Outcome*) {
  const double weight = sample.meta.value("fresh", 0.0) - 1;
  if (sample.nll.empty() || weight <= 0) return {};
  const double sum = std::accumulate(sample.nll.begin(), sample.nll.end(), 0.0);
  return {{sum / static_cast<double>(sample.nll.size()) * weight, weight}};
}

/// NLL minus that of the dense run, of the tokens that `wanted` says.
template <class Wanted>
std::vector<Share> delta_of(const Outcome& sample, const Outcome* dense, const Wanted& wanted) {
  if (dense == nullptr) return {};
  std::vector<double> delta;
  for (size_t i = 0; i < sample.nll.size(); ++i) {
    if (wanted(i)) delta.push_back(sample.nll[i] - dense->nll[i]);
  }
  return token_blocks(delta);
}

std::vector<Share> delta_nll(const Outcome& sample, const Outcome* dense) {
  return delta_of(sample, dense, [](size_t) { return true; });
}
std::vector<Share> delta_recall(const Outcome& sample, const Outcome* dense) {
  return delta_of(sample, dense, [&](size_t i) { return sample.recall[i] != 0; });
}
std::vector<Share> delta_other(const Outcome& sample, const Outcome* dense) {
  return delta_of(sample, dense, [&](size_t i) { return sample.recall[i] == 0; });
}
template <size_t quartile>
std::vector<Share> delta_quartile(const Outcome& sample, const Outcome* dense) {
  return delta_of(sample, dense, [&](size_t i) { return i * 4 / sample.nll.size() == quartile; });
}

/// Tokens fed first to last after a compression.
template <int32_t first, int32_t last>
std::vector<Share> delta_distance(const Outcome& sample, const Outcome* dense) {
  return delta_of(sample, dense, [&](size_t i) {
    return sample.since_event[i] >= first && sample.since_event[i] <= last;
  });
}

/// What feeding alone changes: the dense run as it was fed against the dense run in one pass.
std::vector<Share> noise_floor(const Outcome&, const Outcome* dense) {
  if (dense == nullptr || dense->one_pass_nll.size() != dense->nll.size()) return {};
  std::vector<double> delta;
  for (size_t i = 0; i < dense->nll.size(); ++i) {
    delta.push_back(dense->nll[i] - dense->one_pass_nll[i]);
  }
  return token_blocks(delta);
}

std::optional<double> se(const CellOutcome& cell) {
  std::vector<double> all;
  for (const Outcome& sample : cell.samples) {
    if (!sample.is_nan) all.insert(all.end(), sample.nll.begin(), sample.nll.end());
  }
  if (all.size() < 2) return std::nullopt;
  return se_iid(all);
}

double exponential(double nats) { return std::exp(nats); }
double magnitude(double nats) { return std::abs(nats); }

}  // namespace

void register_metric(Catalogue& catalogue) {
  const auto add = [&](std::string name, std::string doc, auto shares, Finish finish = nullptr,
                       std::string unit = "nat/token") {
    catalogue.add(Metric{.name = std::move(name),
                         .unit = std::move(unit),
                         .doc = std::move(doc),
                         .better = Better::lower,
                         .shares = shares,
                         .finish = finish});
  };
  catalogue.add(Metric{.name = "nll",
                       .unit = "nat/token",
                       .doc = "mean negative log-likelihood of the scored tokens",
                       .better = Better::lower,
                       .in_name = true,
                       .shares = nll});
  catalogue.add(Metric{.name = "ppl",
                       .unit = "",
                       .doc = "perplexity, exp(nll)",
                       .better = Better::lower,
                       .in_name = true,
                       .shares = nll,
                       .finish = exponential});
  catalogue.add(Metric{.name = "ppl_compat_hf",
                       .unit = "",
                       .doc = "perplexity as the Hugging Face documentation's snippet weights it",
                       .better = Better::lower,
                       .where_measured = true,
                       .shares = nll_compat_hf,
                       .finish = exponential});
  add("delta_nll", "mean of NLL minus the dense run's, token by token", delta_nll);
  add("ppl_ratio", "exp(delta_nll)", delta_nll, exponential, "");
  add("noise_floor", "|delta_nll| of the dense run, as fed against one pass", noise_floor,
      magnitude);
  add("delta_nll_recall", "delta_nll of tokens that repeat a bigram of the distant prefix",
      delta_recall);
  add("delta_nll_other", "delta_nll of all other tokens", delta_other);
  add("delta_nll_q1", "delta_nll of the first quarter of each window", delta_quartile<0>);
  add("delta_nll_q2", "delta_nll of the second quarter of each window", delta_quartile<1>);
  add("delta_nll_q3", "delta_nll of the third quarter of each window", delta_quartile<2>);
  add("delta_nll_q4", "delta_nll of the last quarter of each window", delta_quartile<3>);
  const std::string since = " tokens after the last compression";
  add("delta_nll_d1_8", "delta_nll of tokens 1-8" + since, delta_distance<1, 8>);
  add("delta_nll_d9_32", "delta_nll of tokens 9-32" + since, delta_distance<9, 32>);
  add("delta_nll_d33_128", "delta_nll of tokens 33-128" + since, delta_distance<33, 128>);
  add("delta_nll_d129_512", "delta_nll of tokens 129-512" + since, delta_distance<129, 512>);
  add("delta_nll_d513_2048", "delta_nll of tokens 513-2048" + since, delta_distance<513, 2048>);
  add("delta_nll_d2049", "delta_nll of tokens from 2049 on" + since,
      delta_distance<2049, std::numeric_limits<int32_t>::max()>);
  catalogue.add(Metric{.name = "se_iid",
                       .unit = "nat/token",
                       .doc = "standard error of nll as if tokens were independent: too small",
                       .value = se});
}

}  // namespace kvlab::metrics::perplexity
