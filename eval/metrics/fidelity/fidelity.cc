// How far the next-token distributions lie from the dense run's on the same tokens, fed alike.  In
// the row of the dense method itself both runs are dense and one adds up in another order: what
// rounding alone does.

#include <algorithm>
#include <cmath>

#include "eval/catalogue.h"

namespace kvlab::metrics::fidelity {
namespace {

using Values = std::vector<double> Fidelity::*;

double number(uint8_t x) { return x; }

/// The mean over tokens, in blocks.
auto mean_of(Values values) {
  return [values](const Outcome& sample, const Outcome*) {
    return token_blocks(sample.fidelity.*values);
  };
}

std::vector<Share> squares(const Outcome& sample, const Outcome*) {
  std::vector<double> all = sample.fidelity.dp;
  for (double& x : all) x *= x;
  return token_blocks(all);
}

/// Flags or counts as shares of `whole`.
auto share_of(std::vector<uint8_t> Fidelity::* counts, double whole) {
  return [counts, whole](const Outcome& sample, const Outcome*) {
    std::vector<double> all;
    for (const uint8_t count : sample.fidelity.*counts) all.push_back(number(count) / whole);
    return token_blocks(all);
  };
}

std::vector<Share> relative(const Outcome& sample, const Outcome*) {
  if (sample.fidelity.norm == 0) return {};
  return {{sample.fidelity.error, sample.fidelity.norm}};
}

auto units_of(Values values) {
  return [values](const Outcome& sample) { return token_units(sample.fidelity.*values); };
}

/// Margins of the dense run where its first choice was lost.
std::vector<std::vector<double>> lost_margins(const Outcome& sample) {
  std::vector<double> margins;
  for (size_t i = 0; i < sample.fidelity.agrees.size(); ++i)
    if (sample.fidelity.agrees[i] == 0) margins.push_back(sample.fidelity.margin[i]);
  return token_units(margins);
}

template <int per_mille>
double percentile(std::span<double> values) {
  return quantile(values, per_mille / 1000.0);
}
double most(std::span<double> values) { return *std::ranges::max_element(values); }
double root(double x) { return std::sqrt(x); }

/// Pearson's, over the scored tokens of all samples.
std::optional<double> correlation(const CellOutcome& cell) {
  double n = 0, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
  for (const Outcome& sample : cell.samples) {
    if (sample.is_nan || sample.fidelity.dense_nll.size() != sample.nll.size()) continue;
    for (size_t i = 0; i < sample.nll.size(); ++i) {
      const double a = sample.fidelity.dense_nll[i], b = sample.nll[i];
      n += 1, x += a, y += b, xx += a * a, yy += b * b, xy += a * b;
    }
  }
  const double spread = (n * xx - x * x) * (n * yy - y * y);
  if (n < 2 || !(spread > 0)) return std::nullopt;
  return (n * xy - x * y) / std::sqrt(spread);
}

class Adder {
 public:
  explicit Adder(Catalogue& catalogue) : catalogue_(catalogue) {}

  template <class Shares>
  void mean(std::string name, std::string unit, Better better, std::string doc, Shares shares,
            Finish finish = nullptr) {
    catalogue_.add(Metric{.name = std::move(name),
                          .unit = std::move(unit),
                          .doc = std::move(doc),
                          .better = better,
                          .where_measured = true,
                          .shares = shares,
                          .finish = finish});
  }
  template <class Units>
  void reduced(std::string name, std::string unit, Better better, std::string doc, Units units,
               Reduce reduce) {
    catalogue_.add(Metric{.name = std::move(name),
                          .unit = std::move(unit),
                          .doc = std::move(doc),
                          .better = better,
                          .where_measured = true,
                          .units = units,
                          .reduce = reduce});
  }

 private:
  Catalogue& catalogue_;
};

void add_divergences(Adder& add) {
  using enum Better;
  add.mean("kl", "nat/token", lower, "KL divergence from the dense distribution, mean",
           mean_of(&Fidelity::kl));
  const auto kl = units_of(&Fidelity::kl);
  add.reduced("kl_median", "nat/token", lower, "its median", kl, percentile<500>);
  add.reduced("kl_p90", "nat/token", lower, "its 90th percentile", kl, percentile<900>);
  add.reduced("kl_p99", "nat/token", lower, "its 99th percentile", kl, percentile<990>);
  add.reduced("kl_p999", "nat/token", lower, "its 99.9th percentile", kl, percentile<999>);
  add.reduced("kl_max", "nat/token", lower, "its largest value", kl, most);
  add.mean("kl_rev", "nat/token", lower, "KL divergence of the dense distribution from this one",
           mean_of(&Fidelity::kl_rev));
  add.mean("js", "nat/token", lower, "Jensen-Shannon divergence", mean_of(&Fidelity::js));
  add.mean("tv", "", lower, "total variation: half the summed differences of probabilities",
           mean_of(&Fidelity::tv));
}

void add_choices(Adder& add) {
  using enum Better;
  add.mean("top1_agree", "fraction", higher, "tokens whose first choice is the dense run's",
           share_of(&Fidelity::agrees, 1));
  add.mean("top5_overlap", "fraction", higher, "of the 5 likeliest tokens, those of the dense run",
           share_of(&Fidelity::overlap_5, 5));
  add.mean("top10_overlap", "fraction", higher, "the same of 10",
           share_of(&Fidelity::overlap_10, 10));
  add.mean("top50_overlap", "fraction", higher, "the same of 50",
           share_of(&Fidelity::overlap_50, 50));
  add.reduced("flip_margin_p50", "logit", lower,
              "how clear the dense first choice was where it was lost, median", lost_margins,
              percentile<500>);
}

void add_differences(Adder& add) {
  using enum Better;
  add.mean("dp_mean", "", neither, "probability of the right token less the dense run's, mean",
           mean_of(&Fidelity::dp));
  add.mean("dp_rms", "", lower, "its root mean square", squares, root);
  const auto dp = units_of(&Fidelity::dp);
  add.reduced("dp_p01", "", higher, "its 1st percentile", dp, percentile<10>);
  add.reduced("dp_p99", "", neither, "its 99th percentile", dp, percentile<990>);
  add.reduced("logit_max_abs", "logit", lower, "largest difference of a logit",
              units_of(&Fidelity::max_abs), most);
  add.mean("logit_mean_abs", "logit", lower, "mean difference of a logit",
           mean_of(&Fidelity::mean_abs));
  add.mean("logit_rel_fro", "", lower, "norm of the differences over the norm of the logits",
           relative, root);
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  Adder add(catalogue);
  add_divergences(add);
  add_choices(add);
  add_differences(add);
  catalogue.add(Metric{.name = "nll_corr",
                       .doc = "Pearson correlation of the tokens' NLLs with the dense run's",
                       .better = Better::higher,
                       .where_measured = true,
                       .value = correlation});
}

}  // namespace kvlab::metrics::fidelity
