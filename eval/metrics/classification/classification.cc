#include "eval/metrics/classification/classification.h"

#include <algorithm>

namespace kvlab {
namespace {

using Names = std::vector<std::string>;

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

Names named_in(std::string_view text, const Names& classes) {
  Names matches;
  for (const std::string& name : classes)
    if (contains(text, name)) matches.push_back(name);
  return matches;
}

double share_of(std::string_view gold, const Names& matches) {
  const bool found = std::ranges::find(matches, gold) != matches.end();
  return found ? 1 / static_cast<double>(matches.size()) : 0;
}

}  // namespace

double classification(std::string_view text, std::string_view gold, const Names& classes) {
  Names matches = named_in(text, classes);
  std::erase_if(matches,
                [&](const std::string& name) { return name != gold && contains(gold, name); });
  return share_of(gold, matches);
}

double classification_compat(std::string_view text, std::string_view gold, const Names& classes) {
  Names matches = named_in(text, classes);
  for (size_t i = 0; i < matches.size(); ++i) {
    const std::string name = matches[i];
    if (name == gold || !contains(gold, name)) continue;
    matches.erase(std::ranges::find(matches, name));
  }
  return share_of(gold, matches);
}

}  // namespace kvlab
