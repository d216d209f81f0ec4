// Variables set to each other: chains (all names that have come to hold a number) and assignments
// (the number that a name has come to hold).

#include <algorithm>
#include <string>
#include <vector>

#include "eval/corpus/recall/kinds.h"
#include "eval/synthetic/needle.h"
#include "eval/synthetic/values.h"

namespace kvlab::corpus {
namespace {

struct Chain {
  std::vector<std::string> names{};
  std::string number{};
};

std::vector<Chain> draw_chains(SplitMix64& random, int64_t count, int64_t names, char first,
                               int letters) {
  Distinct distinct;
  std::vector<Chain> chains(static_cast<size_t>(count));
  for (Chain& chain : chains) {
    while (std::ssize(chain.names) < names)
      chain.names.push_back(distinct.letters(random, first, letters));
    chain.number = distinct([&] { return std::to_string(10000 + random.below(89999)); });
  }
  return chains;
}

/// The lines of all chains; those of one keep their order.
template <class Line>
std::vector<std::string> mixed(SplitMix64& random, const std::vector<Chain>& chains, Line&& line) {
  std::vector<std::string> lines;
  std::vector<size_t> next(chains.size(), 0), open;
  for (size_t c = 0; c < chains.size(); ++c) open.push_back(c);
  while (!open.empty()) {
    const size_t at = random.below(open.size()), c = open[at];
    const Chain& chain = chains[c];
    lines.push_back(
        line(chain.names[next[c]], next[c] == 0 ? chain.number : chain.names[next[c] - 1]));
    if (++next[c] == chain.names.size()) open.erase(open.begin() + static_cast<ptrdiff_t>(at));
  }
  return lines;
}

}  // namespace

Draft chains(const Source& source, SplitMix64& random, int64_t tokens) {
  const int64_t names = std::min(between(random, 1, 5), std::max<int64_t>(1, (tokens - 40) / 24));
  const int64_t cost = names * 21 + 44;
  const int64_t most = std::max<int64_t>(1, tokens / cost);
  const int64_t count = between(random, (most + 1) / 2, most);
  std::vector<Chain> drawn = draw_chains(random, count, names, 'A', random.below(2) == 0 ? 5 : 3);
  const auto lines = mixed(random, drawn, [](const std::string& name, const std::string& value) {
    return "Set " + name + " = " + value + ".";
  });
  const auto pieces = source.filler(random, source.draw_filler(random), tokens - count * cost);
  Draft draft;
  draft.add(scattered(random, pieces, lines) + "\n");
  random.shuffle(drawn);
  for (const Chain& chain : drawn) {
    draft.add("Which variables have the value " + chain.number +
              ", directly or through others? The variables with the value " + chain.number +
              " are");
    draft.answer(" " + joined(chain.names, ", "));
    draft.add(".\n");
  }
  return draft;
}

Draft assignments(const Source& source, SplitMix64& random, int64_t tokens) {
  const int64_t names = between(random, 1, 5);
  const int64_t asked = between(random, 1, names);  // of each chain
  const int64_t cost = names * 9 + asked * 18;
  const int64_t most = std::max<int64_t>(1, tokens / cost);
  const int64_t count = between(random, (most + 1) / 2, most);
  const std::vector<Chain> drawn = draw_chains(random, count, names, 'a', 4);
  Draft draft;
  const auto lines = mixed(random, drawn, [](std::string name, const std::string& value) {
    return name.append(" = ").append(value).append("\n");
  });
  for (const std::string& line : lines) draft.add(line);
  for (const std::string& piece :
       source.filler(random, source.draw_filler(random), tokens - count * cost))
    draft.add("# " + piece + "\n");
  std::vector<std::pair<std::string, std::string>> questions;
  for (const Chain& chain : drawn)
    for (const std::string& name : random.sample(chain.names, static_cast<size_t>(asked)))
      questions.emplace_back(name, chain.number);
  random.shuffle(questions);
  for (const auto& [name, number] : questions) {
    draft.add("assert " + name + " ==");
    draft.answer(" " + number);
    draft.add("\n");
  }
  return draft;
}

}  // namespace kvlab::corpus
