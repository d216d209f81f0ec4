// Every kind: what is marked stands in the text before it, and sizes are what was asked for.

#include "eval/corpus/recall/kinds.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "eval/synthetic/haystack.h"

namespace kvlab::corpus {
namespace {

Source source() {
  return Source(split_words("def save(path): with open(path) as file: return file.read() # all"));
}

/// "1, 2, 3" or "a, b, and c" in pieces, each of which a fact has told.
std::vector<std::string> pieces_of(std::string answer) {
  std::vector<std::string> pieces;
  for (size_t at = 0; (at = answer.find(", and ")) != answer.npos;) answer.replace(at, 6, ", ");
  for (size_t begin = 0; begin <= answer.size();) {
    const size_t end = std::min(answer.find(", ", begin), answer.size());
    pieces.push_back(answer.substr(begin, end - begin));
    begin = end + 2;
  }
  return pieces;
}

class EachKind : public testing::TestWithParam<Kind> {};

TEST_P(EachKind, AnswersStandInTheTextBefore) {
  const Source words = source();
  for (const int64_t tokens : {60, 128, 512, 2048}) {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      SplitMix64 random = random_stream(seed, "kinds", static_cast<uint64_t>(tokens));
      const Draft draft = GetParam().make(words, random, tokens);
      ASSERT_FALSE(draft.answers().empty()) << "seed " << seed << ", " << tokens << " tokens";
      for (const Range& range : draft.answers()) {
        const auto begin = static_cast<size_t>(range.first);
        const std::string before = draft.text().substr(0, begin);
        std::string answer = draft.text().substr(begin, static_cast<size_t>(range.size()));
        if (answer.starts_with(' ')) answer.erase(0, 1);
        if (before.find(answer) != before.npos) continue;
        for (const std::string& piece : pieces_of(answer))
          EXPECT_NE(before.find(piece), before.npos) << piece << " in\n" << draft.text();
      }
    }
  }
}

TEST_P(EachKind, IsAFunctionOfItsStream) {
  const Source words = source();
  SplitMix64 one(9), two(9), other(10);
  const Draft draft = GetParam().make(words, one, 400);
  EXPECT_EQ(GetParam().make(words, two, 400).text(), draft.text());
  EXPECT_NE(GetParam().make(words, other, 400).text(), draft.text());
}

INSTANTIATE_TEST_SUITE_P(All, EachKind, testing::ValuesIn(kinds().begin(), kinds().end()),
                         [](const auto& kind) { return std::string(kind.param.name); });

TEST(Chains, AnswersAreTheNamesThatLeadToTheNumber) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SplitMix64 random(seed);
    const Draft draft = chains(source(), random, 300);
    // The context again: "Set NAME = VALUE." wherever it stands.
    std::vector<std::pair<std::string, std::string>> set;
    const std::string& text = draft.text();
    for (size_t at = 0; (at = text.find("Set ", at)) != text.npos;) {
      const size_t equals = text.find(" = ", at), end = text.find('.', equals);
      set.emplace_back(text.substr(at + 4, equals - at - 4),
                       text.substr(equals + 3, end - equals - 3));
      at = end;
    }
    const auto answer = [&](size_t i) {
      const Range range = draft.answers()[i];
      return text.substr(static_cast<size_t>(range.first) + 1,
                         static_cast<size_t>(range.size()) - 1);
    };
    for (size_t i = 0; i < draft.answers().size(); ++i) {
      const std::string question = text.substr(0, static_cast<size_t>(draft.answers()[i].first));
      const size_t number = question.rfind(" value ") + 7;
      std::set<std::string> holding{question.substr(number, question.rfind(" are") - number)};
      std::string names;
      for (const auto& [name, value] : set)
        if (holding.contains(value)) {
          holding.insert(name);
          names += (names.empty() ? "" : ", ") + name;
        }
      EXPECT_EQ(answer(i), names) << text;
    }
  }
}

TEST(Assignments, TheNumberIsTheOneAtTheEndOfTheChain) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SplitMix64 random(seed);
    const std::string text = assignments(source(), random, 300).text();
    std::map<std::string, std::string> value;
    size_t asked = 0;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      const std::string line = text.substr(begin, end - begin);
      begin = end + 1;
      if (line.starts_with("assert ")) {
        const size_t equals = line.find(" == ");
        EXPECT_EQ(value.at(line.substr(7, equals - 7)), line.substr(equals + 4));
        ++asked;
      } else if (const size_t equals = line.find(" = "); !line.starts_with("#")) {
        const std::string given = line.substr(equals + 3);
        value[line.substr(0, equals)] = value.contains(given) ? value[given] : given;
      }
    }
    EXPECT_GE(asked, 1U);
  }
}

TEST(Needles, DistancesReachOverTheWholeDocument) {
  std::set<int64_t> tenths;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SplitMix64 random(seed);
    const Draft draft = needles(source(), random, 2000);
    const Range last = draft.answers().back();
    const std::string answer =
        draft.text().substr(static_cast<size_t>(last.first), static_cast<size_t>(last.size()));
    const auto told = static_cast<int64_t>(draft.text().find(answer));
    tenths.insert((last.first - told) * 10 / std::ssize(draft.text()));
  }
  EXPECT_GE(tenths.size(), 9U);
}

}  // namespace
}  // namespace kvlab::corpus
