#include "eval/catalogue.h"
#include "eval/metrics/code_sim/code_sim.h"
#include "eval/text_metric.h"

namespace kvlab::metrics::code_sim {

void register_metric(Catalogue& catalogue) {
  catalogue.add(text_metric("code_sim", "likeness of the first line of code, by its characters",
                            [](std::string_view text, std::string_view reference, const Json&) {
                              return kvlab::code_sim(text, reference);
                            }));
}

}  // namespace kvlab::metrics::code_sim
