#include "eval/catalogue.h"
#include "eval/metrics/numbers/numbers.h"
#include "eval/text_metric.h"

namespace kvlab::metrics::numbers {
namespace {

double share(std::string_view text, std::string_view reference, const Json&) {
  return number_share(text, reference);
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  catalogue.add(
      text_metric("retrieval", "share of the numbers named that are the paragraph's", share));
  catalogue.add(text_metric("count", "share of the numbers named that are the right count", share));
}

}  // namespace kvlab::metrics::numbers
