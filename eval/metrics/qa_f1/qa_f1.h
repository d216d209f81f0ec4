#pragma once
// F1 of the words of an answer to a question, as SQuAD and LongBench count it.

#include <string_view>

namespace kvlab {

/// Texts are lower-cased, ASCII punctuation is deleted, the words a, an and the become spaces; then
/// with c words in common (each as often as both have it) P = c / predicted, R = c / wanted and the
/// score is 2PR / (P + R), 0 where c is.
double qa_f1(std::string_view text, std::string_view reference);

/// The same of characters, for texts without spaces: white space and punctuation are deleted, that
/// of Chinese and the fullwidth forms included.  (Where others cut Chinese into words, numbers
/// depend on their dictionary.)
double qa_f1_char(std::string_view text, std::string_view reference);

}  // namespace kvlab
