#pragma once
// One JSON value that stands for many.
//
//   {"sweep": [a, b]}                           a, then b
//   {"range": {"from": 1, "to": 8, "step": 2}}  1, 3, 5, 7  (or "factor": 2 -> 1, 2, 4, 8)
//   {"zip": {"x": [1, 2], "y": [3, 4]}, ...}    members x and y of this object, pairwise
//
// may stand anywhere; together they make a product, members in key order, the last one fastest.

#include <vector>

#include "core/json.h"

namespace kvlab {

inline constexpr int64_t kMostExpanded = 10000;

/// All values it stands for, without any of the three words.  E_CONFIG: lists of unequal length in
/// a zip, an empty sweep, a range that does not end, or more than kMostExpanded values.
std::vector<Json> expand(const Json& value, std::string_view where);

}  // namespace kvlab
