#include "core/schema.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"

namespace kvlab {
namespace {

constexpr std::array<std::string_view, 7> kTypes{"integer", "number", "boolean", "string",
                                                 "object",  "array",  "null"};
constexpr std::array<std::string_view, 9> kKeys{"type",  "default", "minimum", "maximum", "choices",
                                                "items", "fields",  "unit",    "doc"};

/// Where a value stands: "quant" and "key.bits".
struct Place {
  std::string_view who;
  std::string name;
  Place member(std::string_view key) const {
    return {who, (name.empty() ? "" : name + ".") + printable(key)};
  }
  std::string text() const {
    return std::string(who) + (name.empty() ? "" : ": parameter `" + name + "`");
  }
};

std::string shown(const Json& value) { return printable(canonical(value)); }

/// "8, 4 or 2"
std::string either(const std::vector<std::string>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  return text;
}

bool fits_int64(const Json& value) {
  return !value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX;
}

bool is_a(const Json& value, std::string_view type) {
  if (type == "integer") return value.is_number_integer() && fits_int64(value);
  if (type == "number") return value.is_number();
  return value.type_name() == type;
}

bool is_any(const Json& value, const std::vector<std::string>& types) {
  return std::ranges::any_of(types, [&](const auto& type) { return is_a(value, type); });
}

/// What only "number" fits becomes a real.
Json normal(const Json& value, const std::vector<std::string>& types) {
  const bool real = value.is_number() && std::ranges::find(types, "integer") == types.end();
  return real ? Json(value.get<double>()) : value;
}

void check_type(const Json& value, const std::vector<std::string>& types, const Place& place) {
  KVLAB_REQUIRE(!value.is_number_float() || std::isfinite(value.get<double>()), "E_CONFIG",
                place.text(), " is ", value.get<double>(), ", allowed are finite numbers");
  if (is_any(value, types)) return;
  std::string given = value.is_number_float() ? "real number" : value.type_name();
  if (value.is_number_integer()) given = fits_int64(value) ? "integer" : "integer beyond 64 bit";
  fail("E_CONFIG", place.text(), " is ", shown(value), " (", given, "), allowed is ",
       either(types));
}

/// "1..64 token", "at least 1 token"
std::string range_of(const Parameter& parameter) {
  const std::string unit = parameter.unit.empty() ? "" : " " + parameter.unit;
  if (parameter.maximum.is_null()) return "at least " + shown(parameter.minimum) + unit;
  if (parameter.minimum.is_null()) return "at most " + shown(parameter.maximum) + unit;
  return shown(parameter.minimum) + ".." + shown(parameter.maximum) + unit;
}

void check_scalar(const Json& value, const Parameter& parameter, const Place& place) {
  const bool below = value.is_number() && !parameter.minimum.is_null() && value < parameter.minimum;
  const bool above = value.is_number() && !parameter.maximum.is_null() && value > parameter.maximum;
  KVLAB_REQUIRE(!below && !above, "E_CONFIG", place.text(), " is ", shown(value), ", allowed is ",
                range_of(parameter));
  if (parameter.choices.empty() || value.is_structured() || value.is_null()) return;
  if (std::ranges::find(parameter.choices, value) != parameter.choices.end()) return;
  std::vector<std::string> words;
  for (const Json& choice : parameter.choices) words.push_back(shown(choice));
  std::string near;
  if (value.is_string())
    if (near = nearest_name(shown(value), words); !near.empty())
      near = "; did you mean " + near + "?";
  fail("E_CONFIG", place.text(), " is ", shown(value), ", allowed is ", either(words),
       parameter.unit.empty() ? "" : " " + parameter.unit, near);
}

Json complete_object(const std::vector<Parameter>& parameters, const Json& given,
                     const Place& place);

Json checked(const Json& value, const Parameter& parameter, const Place& place) {
  check_type(value, parameter.types, place);
  if (value.is_object() && !parameter.fields.empty())
    return complete_object(parameter.fields, value, place);
  if (value.is_array() && !parameter.items.empty()) {
    Json elements = Json::array();
    for (const Json& element : value) {
      const Place at = {place.who, place.name + "[" + std::to_string(elements.size()) + "]"};
      check_type(element, parameter.items, at);
      check_scalar(element, parameter, at);
      elements.push_back(normal(element, parameter.items));
    }
    return elements;
  }
  check_scalar(value, parameter, place);
  return normal(value, parameter.types);
}

std::vector<std::string> names_of(const std::vector<Parameter>& parameters) {
  std::vector<std::string> names;
  for (const Parameter& parameter : parameters) names.push_back(parameter.name);
  return names;
}

Json complete_object(const std::vector<Parameter>& parameters, const Json& given,
                     const Place& place) {
  KVLAB_REQUIRE(given.is_object(), "E_CONFIG", place.text(), ": parameters are ", shown(given),
                ", they must be an object");
  for (const auto& [key, unused] : given.items())
    if (std::ranges::find(parameters, key, &Parameter::name) == parameters.end())
      fail("E_UNKNOWN", place.text(), ": there is no parameter `", place.member(key).name, "`",
           suggestion(key, names_of(parameters)));
  Json complete = Json::object();
  for (const Parameter& parameter : parameters) {
    const Place at = place.member(parameter.name);
    if (given.contains(parameter.name)) {
      complete[parameter.name] = checked(given[parameter.name], parameter, at);
    } else {
      KVLAB_REQUIRE(!parameter.required, "E_CONFIG", at.text(), " (", either(parameter.types),
                    ") is missing and has no default");
      complete[parameter.name] = parameter.standard;
    }
  }
  return complete;
}

// From here on: reading a schema.  Its mistakes are those of a method's author.

[[noreturn]] void refuse(const Place& place, const std::string& reason) {
  fail("E_CONFIG", place.who, ": schema of parameter `", place.name, "`: ", reason);
}

std::vector<std::string> parse_types(const Json& value, const Place& place) {
  std::vector<std::string> types;
  for (const Json& type : value.is_array() ? value : Json::array({value})) {
    if (std::ranges::none_of(kTypes, [&](std::string_view known) { return type == known; }))
      refuse(place, "type " + shown(type) + " is not one of integer, number, boolean, string, " +
                        "object, array, null");
    types.push_back(type);
  }
  if (types.empty()) refuse(place, "it has no type");
  return types;
}

std::vector<Parameter> parse_parameters(const Json& text, const Place& place);

Parameter parse_parameter(const Json& text, const std::string& name, const Place& place) {
  if (!text.is_object()) refuse(place, "it must be an object");
  for (const auto& [key, unused] : text.items())
    if (std::ranges::find(kKeys, key) == kKeys.end())
      refuse(place, "unknown key `" + printable(key) + "`" +
                        suggestion(key, std::vector<std::string>(kKeys.begin(), kKeys.end())));
  const auto at = [&](const char* key) { return text.contains(key) ? text[key] : Json(); };
  const auto word = [&](const char* key) {
    if (text.contains(key) && !text[key].is_string())
      refuse(place, "`" + std::string(key) + "` must be a string");
    return text.value(key, "");
  };

  Parameter parameter{.name = name, .unit = word("unit"), .doc = word("doc")};
  if (parameter.doc.empty()) refuse(place, "it needs a `doc`");
  parameter.types = parse_types(at("type"), place);
  if (text.contains("items")) parameter.items = parse_types(text["items"], place);
  if (text.contains("fields")) parameter.fields = parse_parameters(text["fields"], place);
  parameter.minimum = at("minimum");
  parameter.maximum = at("maximum");
  for (const Json& bound : {parameter.minimum, parameter.maximum})
    if (!bound.is_null() && !bound.is_number()) refuse(place, "its range must be of numbers");
  if (text.contains("choices")) {
    if (!text["choices"].is_array() || text["choices"].empty())
      refuse(place, "`choices` must be a list");
    for (const Json& choice : text["choices"])
      parameter.choices.push_back(
          normal(choice, parameter.items.empty() ? parameter.types : parameter.items));
  }
  parameter.required = !text.contains("default");
  if (!parameter.required) parameter.standard = checked(text["default"], parameter, place);
  return parameter;
}

std::vector<Parameter> parse_parameters(const Json& text, const Place& place) {
  KVLAB_REQUIRE(text.is_object(), "E_CONFIG", place.who, ": its schema must be an object");
  std::vector<Parameter> parameters;
  for (const auto& [name, parameter] : text.items())
    parameters.push_back(parse_parameter(parameter, name, place.member(name)));
  return parameters;
}

}  // namespace

Schema Schema::parse(std::string_view text, std::string_view who) {
  Schema schema;
  const Json json = parse_json(text.empty() ? "{}" : text, std::string(who) + ": schema");
  schema.parameters_ = parse_parameters(json, {who, ""});
  return schema;
}

Json Schema::complete(const Json& given, std::string_view who) const {
  return complete_object(parameters_, given, {who, ""});
}

}  // namespace kvlab
