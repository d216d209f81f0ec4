#include "eval/catalogue.h"
#include "eval/metrics/qa_f1/qa_f1.h"
#include "eval/text_metric.h"

namespace kvlab::metrics::qa_f1 {

void register_metric(Catalogue& catalogue) {
  catalogue.add(text_metric("qa_f1", "F1 of the answer's words",
                            [](std::string_view text, std::string_view reference, const Json&) {
                              return kvlab::qa_f1(text, reference);
                            }));
  catalogue.add(text_metric("qa_f1_char", "F1 of the answer's characters",
                            [](std::string_view text, std::string_view reference, const Json&) {
                              return kvlab::qa_f1_char(text, reference);
                            }));
}

}  // namespace kvlab::metrics::qa_f1
