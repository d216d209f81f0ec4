// score_text: for each line of standard input one of standard output, for comparison with other
// implementations of the same definitions.
//
//   {"metric": "qa_f1", "text": "...", "references": ["..."], "meta": {...}}   -> 0.5
//   {"lower": "..."}                                                           -> "..."

#include <exception>
#include <iostream>
#include <string>

#include "core/error.h"
#include "eval/catalogue.h"
#include "eval/unicode.h"

namespace kvlab {
namespace {

Json answer(const Json& request) {
  if (request.contains("lower"))
    return utf8(lower(code_points(request.at("lower").get<std::string>())));
  const Outcome outcome{.texts = {request.at("text")},
                        .references = {request.at("references")},
                        .meta = request.value("meta", Json::object())};
  const auto shares =
      catalogue().metric(request.at("metric").get<std::string>()).shares(outcome, nullptr);
  return pooled(shares);
}

}  // namespace
}  // namespace kvlab

int main() try {
  for (std::string line; std::getline(std::cin, line);)
    std::cout << kvlab::answer(kvlab::parse_json(line, "request")).dump() << '\n';
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
