// Any bytes as a token file: the same tokens however the bytes come, or one sentence.

#include "eval/token_file.h"

#include "tests/fuzz/fuzz.h"

namespace kvlab {
namespace {

constexpr int64_t kVocabulary = 1000;

std::vector<int32_t> tokens_of(std::string_view text, size_t piece) {
  TokenParser parser("input", kVocabulary);
  for (size_t at = 0; at < text.size(); at += piece) parser.feed(text.substr(at, piece));
  return parser.finish();
}

std::string as_list(const std::vector<int32_t>& tokens) {
  std::string text = "[";
  for (const int32_t token : tokens) text += (text.size() > 1 ? ", " : "") + std::to_string(token);
  return text + "]";
}

}  // namespace
}  // namespace kvlab

void kvlab::fuzz::target(std::string_view text) {
  std::vector<int32_t> whole, pieces;
  const auto codes = {std::string_view("E_FORMAT"), std::string_view("E_POSITION")};
  const bool valid = fuzz::accepts(codes, [&] { whole = tokens_of(text, text.size() + 1); });
  const bool again = fuzz::accepts(codes, [&] { pieces = tokens_of(text, 3); });
  fuzz::require(valid == again && whole == pieces, "pieces do not matter");
  for (const int32_t token : whole)
    fuzz::require(0 <= token && token < kVocabulary, "tokens are in the vocabulary");
  if (valid) fuzz::require(tokens_of(as_list(whole), 7) == whole, "a list of them is read alike");
}
