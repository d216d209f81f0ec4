#pragma once
// The parameters of a method, task or model: their types, defaults, ranges and units, as data.

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace kvlab {

/// One parameter.  `type`: "integer", "number", "boolean", "string", "object", "array".
/// An optional parameter has a default; one without is required.
struct Parameter {
  std::string name{}, type{}, unit{}, doc{};
  Json standard{};              // the default; null: required
  Json minimum{}, maximum{};    // inclusive; null: none
  std::vector<Json> choices{};  // when not empty, the only values allowed
};

/// Written as JSON: {"bits": {"type": "integer", "default": 4, "choices": [8, 4, 2], "unit": "bit",
/// "doc": "..."}, ...}.  Methods carry this text; it is parsed, and itself checked, once.
class Schema {
 public:
  Schema() = default;
  /// E_CONFIG when the text itself is not a schema; `who` names its owner ("quant").
  static Schema parse(std::string_view text, std::string_view who);

  const std::vector<Parameter>& parameters() const { return parameters_; }

  /// `given` completed with defaults.  E_CONFIG: wrong type, outside the range, missing;
  /// E_UNKNOWN: a key that is no parameter, with the nearest one.  The message says who, what was
  /// given, what is allowed.
  Json complete(const Json& given, std::string_view who) const;

 private:
  std::vector<Parameter> parameters_{};
};

}  // namespace kvlab
