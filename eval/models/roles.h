#pragma once
// The names that ModelAccess gives a site's weights.

#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "eval/models/linear.h"

namespace kvlab {

/// The tensor that `role` names ("query", "key", "value", "output", each also with "_bias") of a
/// Site with linear maps of those names; absent when the site has none.  E_UNKNOWN; `who` is the
/// network.
template <class Site>
TensorView weight_of(const Site& site, std::string_view role, std::string_view who) {
  std::vector<std::string> known{"embedding", "head"};
  for (const auto& [name, linear] : {std::pair<std::string, const Linear&>{"query", site.query},
                                     {"key", site.key},
                                     {"value", site.value},
                                     {"output", site.output}}) {
    if (role == name) return linear.weight.view;
    if (role == name + "_bias") return linear.bias.view;
    known.push_back(name);
    known.push_back(name + "_bias");
  }
  fail("E_UNKNOWN", who, ": weight role `", role, "`", suggestion(role, known));
}

}  // namespace kvlab
