#include "core/chunk.h"

#include <algorithm>
#include <array>
#include <string>

#include "core/error.h"
#include "core/json.h"

namespace kvlab {
namespace {

constexpr std::array<std::string_view, 3> kReadPolicies{"raw_chunk", "stored", "masked"};

}  // namespace

std::string_view name_of(ReadPolicy policy) { return kReadPolicies[static_cast<size_t>(policy)]; }

ReadPolicy read_policy_named(std::string_view name) {
  const auto* found = std::ranges::find(kReadPolicies, name);
  if (found == kReadPolicies.end()) {
    const std::vector<std::string> known(kReadPolicies.begin(), kReadPolicies.end());
    fail("E_UNKNOWN", "read policy `", printable(name), "`", suggestion(name, known));
  }
  return static_cast<ReadPolicy>(found - kReadPolicies.begin());
}

}  // namespace kvlab
