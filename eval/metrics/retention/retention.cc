// Whether what an answer needs was kept, and how well it was read where it was: "threw it away"
// apart from "cannot read it".

#include "eval/catalogue.h"
#include "eval/metrics/string_match/match.h"

namespace kvlab::metrics::retention {
namespace {

/// Of all kv heads of all layers that keep a list of tokens.
std::vector<double> heads_of(const Outcome& sample) {
  std::vector<double> all;
  for (const auto& layer : sample.retention) all.insert(all.end(), layer.begin(), layer.end());
  return all;
}

std::vector<Share> needle_retention(const Outcome& sample, const Outcome*) {
  const std::vector<double> heads = heads_of(sample);
  if (heads.empty()) return {};
  double sum = 0;
  for (const double share : heads) sum += share;
  return {{sum / static_cast<double>(heads.size()), 1}};
}

/// Head by head, the mean over the samples.
Json retention_by_layer(const CellOutcome& cell) {
  std::vector<std::vector<double>> sums;
  int64_t samples = 0;
  for (const Outcome& sample : cell.samples) {
    if (sample.is_nan || sample.retention.empty()) continue;
    sums.resize(sample.retention.size());
    for (size_t layer = 0; layer < sums.size(); ++layer) {
      sums[layer].resize(sample.retention[layer].size());
      for (size_t head = 0; head < sums[layer].size(); ++head)
        sums[layer][head] += sample.retention[layer][head];
    }
    ++samples;
  }
  Json layers;
  for (std::vector<double>& heads : sums) {
    for (double& sum : heads) sum /= static_cast<double>(samples);
    layers.push_back(heads.empty() ? Json() : Json(heads));
  }
  return layers;
}

/// Every token of every needle in at least half of the heads.
bool is_kept(const Outcome& sample) {
  size_t whole = 0, all = 0;
  for (const double share : heads_of(sample)) {
    whole += share == 1 ? 1 : 0;
    ++all;
  }
  return all > 0 && 2 * whole >= all;
}

std::vector<Share> retrieval_given_kept(const Outcome& sample, const Outcome*) {
  if (!is_kept(sample)) return {};
  return string_match::turns_scored(sample, string_match::match_all);
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  catalogue.add(Metric{.name = "needle_retention",
                       .unit = "fraction",
                       .doc = "the needles' tokens that a kv head still holds after the prefill",
                       .better = Better::higher,
                       .shares = needle_retention,
                       .by_layer = retention_by_layer});
  catalogue.add(Metric{.name = "retrieval_given_kept",
                       .unit = "fraction",
                       .doc = "string_match_all of the samples whose needles survived whole in at "
                              "least half of the heads",
                       .better = Better::higher,
                       .shares = retrieval_given_kept});
}

}  // namespace kvlab::metrics::retention
