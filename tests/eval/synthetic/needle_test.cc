#include "eval/synthetic/needle.h"

#include <gtest/gtest.h>

namespace kvlab {
namespace {

using Keys = std::vector<std::string>;

TEST(Needle, IsOneSentence) {
  EXPECT_EQ(needle_sentence(ValueKind::numbers, "a-b", "7"), "The secret number of a-b is 7.");
}

TEST(Needle, IsAskedForAloneOrWithOthers) {
  EXPECT_EQ(needle_question(ValueKind::uuids, Keys{"a"}, true), "What is the secret uuid of a?");
  EXPECT_EQ(needle_question(ValueKind::words, Keys{"a"}, false),
            "What are all the secret words of a?");
  EXPECT_EQ(needle_question(ValueKind::words, Keys{"a", "b", "c"}, false),
            "What are all the secret words of a, b, and c?");
  EXPECT_EQ(needle_answer_prefix(ValueKind::numbers, Keys{"a"}, true),
            " The secret number of a is");
  EXPECT_EQ(needle_answer_prefix(ValueKind::numbers, Keys{"a", "b"}, false),
            " The secret numbers of a, and b are");
}

}  // namespace
}  // namespace kvlab
