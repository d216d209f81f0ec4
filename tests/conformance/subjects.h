#pragma once
// Who has to conform: every registered method and example method, with its defaults and with each
// parameter at another value, and every pair of them.  Nobody is named; the registry and the
// schemas say who there is.  A method with an offline step is prepared on the network that all are
// tried on, and its subjects name the artifact.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/compose.h"
#include "core/registry.h"
#include "tests/support/network.h"

namespace kvlab::test {

/// Everything this build contains, and the example methods.
const Registry& registry();

/// What all subjects are tried on: one model, with a text of so many tokens drawn from this seed.
inline constexpr int64_t kTokens = 40;
NetworkConfig network_config(unsigned text = 1);
inline constexpr SplitPolicy kFixed{.kind = SplitPolicy::Kind::fixed, .tokens = 16};

/// A method or a pair, as a config would write it.
struct Subject {
  std::string name{};  // of the test
  Json spec{};
};

inline std::string name_of_subject(const testing::TestParamInfo<Subject>& subject) {
  return subject.param.name;
}
/// Methods alone: defaults; token counts small enough to matter; each other choice.  Parameters a
/// method refuses for a reason of its own, its offline step included, are left out.
const std::vector<Subject>& single_subjects();
/// Pairs of two methods that go together, with defaults and with small token counts.
const std::vector<Subject>& pair_subjects();
/// What the method says against its defaults on this network; "no error" where it is a subject.
std::string refusal_of_defaults(const std::string& name);
/// Pairs that do not, with the refusal.
struct RefusedPair {
  std::string first{}, second{}, refusal{};
};
const std::vector<RefusedPair>& refused_pairs();

}  // namespace kvlab::test
