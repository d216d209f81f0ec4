// Share of the labelled tokens that are the arg max.

#include "eval/catalogue.h"

namespace kvlab::metrics::accuracy {
namespace {

std::vector<Share> acc(const Outcome& sample, const Outcome*) {
  if (sample.labels.empty()) return {};
  Share share{0, static_cast<double>(sample.labels.size())};
  for (size_t i = 0; i < sample.labels.size(); ++i) {
    share.sum += sample.predicted[i] == sample.labels[i] ? 1 : 0;
  }
  return {share};
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  catalogue.add(Metric{.name = "acc",
                       .unit = "fraction",
                       .doc = "labelled tokens predicted first",
                       .better = Better::higher,
                       .shares = acc});
}

}  // namespace kvlab::metrics::accuracy
