#pragma once
// The parameters of a method, codec, task or model: their types, defaults, ranges and units, as
// data.

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace kvlab {

/// One parameter.  A value has one of `types`: "integer" (64 bit), "number", "boolean", "string",
/// "object", "array", "null".  `minimum` and `maximum` bind numbers, `choices` whatever is neither
/// object nor array nor null; in an array they bind each element.  An optional parameter has a
/// default; one without is required.
struct Parameter {
  std::string name{}, unit{}, doc{};
  std::vector<std::string> types{};
  std::vector<std::string> items{};  // types of an array's elements; empty: any
  std::vector<Parameter> fields{};   // members of an object, alike; empty: any
  bool required = true;
  Json standard{};              // the default
  Json minimum{}, maximum{};    // inclusive; null: none
  std::vector<Json> choices{};  // empty: any
};

/// Written as JSON: {"bits": {"type": "integer", "default": 4, "choices": [8, 4, 2], "unit": "bit",
/// "doc": "..."}, ...}.  Keys of a parameter: "type" (a name or a list of names), "default",
/// "minimum", "maximum", "choices", "items" (as type), "fields" (parameters), "unit", "doc" (must).
/// Methods carry this text; it is parsed, and itself checked, once: a default that breaks its own
/// rules is refused.
class Schema {
 public:
  Schema() = default;
  /// E_CONFIG, E_FORMAT when the text itself is not a schema; `who` names its owner ("quant").  No
  /// text: no parameters.
  static Schema parse(std::string_view text, std::string_view who);

  const std::vector<Parameter>& parameters() const { return parameters_; }

  /// `given` completed with defaults; what only "number" fits becomes a real, so that 1 and 1.0
  /// are the same choice.  E_CONFIG: wrong type, outside the range, missing; E_UNKNOWN: a key that
  /// is no parameter, with the nearest one.  The message says who, what was given, what is allowed.
  Json complete(const Json& given, std::string_view who) const;

 private:
  std::vector<Parameter> parameters_{};
};

}  // namespace kvlab
