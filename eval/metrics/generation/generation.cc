// Generated tokens against those expected.

#include <algorithm>

#include "eval/catalogue.h"

namespace kvlab::metrics::generation {
namespace {

int64_t matches(const std::vector<int32_t>& got, const std::vector<int32_t>& want) {
  int64_t count = 0;
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) count += got[i] == want[i] ? 1 : 0;
  return count;
}

std::vector<Share> token_acc(const Outcome& sample, const Outcome*) {
  Share share{0, 0};
  for (size_t turn = 0; turn < sample.answers.size(); ++turn) {
    share.sum += static_cast<double>(matches(sample.generated[turn], sample.answers[turn]));
    share.weight += static_cast<double>(sample.answers[turn].size());
  }
  if (share.weight == 0) return {};
  return {share};
}

std::vector<Share> exact(const Outcome& sample, const Outcome*) {
  if (sample.answers.empty()) return {};
  return {{sample.generated == sample.answers ? 1.0 : 0.0, 1}};
}

/// Tokens before the first that is not the dense run's, of the first turn that generates.
std::vector<Share> greedy_prefix(const Outcome& sample, const Outcome* dense) {
  if (dense == nullptr || sample.generated.empty() || dense->generated.empty()) return {};
  const std::vector<int32_t>&got = sample.generated[0], &want = dense->generated[0];
  const auto [left, right] = std::ranges::mismatch(got, want);
  return {{static_cast<double>(left - got.begin()), 1}};
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  catalogue.add(Metric{.name = "token_acc",
                       .unit = "fraction",
                       .doc = "tokens of the answer generated in their place",
                       .better = Better::higher,
                       .shares = token_acc});
  catalogue.add(Metric{.name = "exact",
                       .unit = "fraction",
                       .doc = "samples answered without a wrong token",
                       .better = Better::higher,
                       .shares = exact});
  catalogue.add(Metric{.name = "greedy_prefix",
                       .unit = "token",
                       .doc = "tokens generated before the first that differs from the dense run's",
                       .better = Better::higher,
                       .shares = greedy_prefix});
}

}  // namespace kvlab::metrics::generation
