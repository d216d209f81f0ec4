#include "eval/text_metric.h"

#include <algorithm>
#include <utility>

namespace kvlab {

Metric text_metric(std::string name, std::string doc, TextScore score) {
  const auto shares = [score](const Outcome& sample, const Outcome*) {
    Share share{0, 0};
    for (size_t turn = 0; turn < sample.texts.size(); ++turn) {
      double best = 0;
      for (const std::string& reference : sample.references[turn])
        best = std::max(best, score(sample.texts[turn], reference, sample.meta));
      share.sum += best;
      share.weight += sample.references[turn].empty() ? 0 : 1;
    }
    return share.weight == 0 ? std::vector<Share>{} : std::vector<Share>{share};
  };
  return Metric{.name = std::move(name),
                .unit = "fraction",
                .doc = std::move(doc),
                .better = Better::higher,
                .shares = shares};
}

double f1(size_t matched, size_t predicted, size_t wanted) {
  if (matched == 0) return 0;
  const double precision = static_cast<double>(matched) / static_cast<double>(predicted);
  const double recall = static_cast<double>(matched) / static_cast<double>(wanted);
  return 2 * precision * recall / (precision + recall);
}

}  // namespace kvlab
