#include "eval/experiment/comparable.h"

#include "core/error.h"

namespace kvlab {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Comparable, protocol, read_policy, model_sha, tokenizer_sha,
                                   data_sha, dtype, prefill_chunk, score_chunk)

Json to_json(const Comparable& facts) { return facts; }
Comparable comparable_from(const Json& json) { return json; }

void check_comparable(const Comparable& a, const Comparable& b, std::string_view who,
                      std::string_view other) {
  const Json left = a, right = b;
  std::string differences;
  for (const auto& [field, value] : left.items()) {
    if (value == right.at(field)) continue;
    differences += (differences.empty() ? "" : ", ") + field + " " + value.dump() + " and " +
                   right.at(field).dump();
  }
  KVLAB_REQUIRE(differences.empty(), "E_INCOMPARABLE", who, " and ", other, " differ in ",
                differences, "; they do not belong in one table: use another --out, or ",
                "--allow-mixed to print them together");
}

}  // namespace kvlab
