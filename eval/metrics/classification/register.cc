// The classes are the sample's: meta.classes.

#include "eval/catalogue.h"
#include "eval/metrics/classification/classification.h"
#include "eval/text_metric.h"

namespace kvlab::metrics::classification {
namespace {

using Score = double (*)(std::string_view, std::string_view, const std::vector<std::string>&);

template <Score score>
double of_sample(std::string_view text, std::string_view gold, const Json& meta) {
  return score(text, gold, meta.value("classes", std::vector<std::string>{}));
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  catalogue.add(text_metric("classification", "1 / classes named when the right one is among them",
                            of_sample<kvlab::classification>));
  catalogue.add(text_metric("classification_compat", "the same as LongBench's loop computes it",
                            of_sample<kvlab::classification_compat>));
}

}  // namespace kvlab::metrics::classification
