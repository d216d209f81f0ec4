#include "eval/catalogue.h"
#include "eval/metrics/rouge_l/rouge_l.h"
#include "eval/text_metric.h"

namespace kvlab::metrics::rouge_l {
namespace {

using Rouge = double (*)(std::string_view, std::string_view, Unit);

template <Rouge rouge, Unit unit>
double score(std::string_view text, std::string_view reference, const Json&) {
  return rouge(text, reference, unit);
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  using kvlab::rouge_l, kvlab::rouge_l_compat;
  catalogue.add(text_metric("rouge_l", "F1 of the longest common subsequence of words",
                            score<rouge_l, Unit::word>));
  catalogue.add(text_metric("rouge_l_char", "F1 of the longest common subsequence of characters",
                            score<rouge_l, Unit::character>));
  catalogue.add(text_metric("rouge_l_compat", "ROUGE-L as the Python package `rouge` computes it",
                            score<rouge_l_compat, Unit::word>));
  catalogue.add(text_metric("rouge_l_compat_char", "the same of characters",
                            score<rouge_l_compat, Unit::character>));
}

}  // namespace kvlab::metrics::rouge_l
