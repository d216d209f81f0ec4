#pragma once
// Which results may stand in one table.

#include <cstdint>
#include <string>
#include <string_view>

#include "core/json.h"

namespace kvlab {

/// What must be equal for two results to stand in one table.  Empty: unknown or not used.
struct Comparable {
  std::string protocol{}, read_policy{}, model_sha{}, tokenizer_sha{}, data_sha{}, dtype{};
  int64_t prefill_chunk = 0, score_chunk = 0;
  bool operator==(const Comparable&) const = default;
};
Json to_json(const Comparable& facts);
Comparable comparable_from(const Json& json);

/// E_INCOMPARABLE naming the fields and both values.  `who` and `other` name the results.
void check_comparable(const Comparable& a, const Comparable& b, std::string_view who,
                      std::string_view other);

}  // namespace kvlab
