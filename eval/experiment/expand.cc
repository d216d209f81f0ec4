#include "eval/experiment/expand.h"

#include <cmath>

#include "core/error.h"

namespace kvlab {
namespace {

void require_few(size_t count, std::string_view where) {
  KVLAB_REQUIRE(count <= static_cast<size_t>(kMostExpanded), "E_CONFIG", where,
                ": stands for more than ", kMostExpanded, " values; sweep over fewer");
}

bool is_word(const Json& value, const char* word) {
  return value.is_object() && value.size() == 1 && value.contains(word);
}

std::vector<Json> sweep(const Json& values, std::string_view where) {
  KVLAB_REQUIRE(values.is_array() && !values.empty(), "E_CONFIG", where,
                ": sweep: must be a list of at least one value");
  std::vector<Json> all;
  for (const Json& value : values) {
    for (Json& one : expand(value, where)) all.push_back(std::move(one));
    require_few(all.size(), where);
  }
  return all;
}

std::vector<Json> range(const Json& given, std::string_view where) {
  const auto number = [&](const char* key) {
    return given.is_object() && given.contains(key) && given.at(key).is_number();
  };
  const bool by_step = number("step"), by_factor = number("factor");
  KVLAB_REQUIRE(number("from") && number("to") && by_step != by_factor && given.size() == 3,
                "E_CONFIG", where,
                ": range: must be {\"from\", \"to\"} and one of \"step\" and \"factor\", numbers");
  const bool integers = given.at("from").is_number_integer() &&
                        given.at(by_step ? "step" : "factor").is_number_integer();
  const double from = given.at("from"), to = given.at("to");
  const double by = given.at(by_step ? "step" : "factor");
  KVLAB_REQUIRE(by_step ? by > 0 : by > 1 && from > 0, "E_CONFIG", where, ": range: ",
                by_step ? "step must be above 0" : "factor must be above 1 and from above 0");
  std::vector<Json> all;
  for (int64_t i = 0;; ++i) {
    const double at =
        by_step ? from + static_cast<double>(i) * by : from * std::pow(by, static_cast<double>(i));
    if (!(at <= to * (1 + 1e-12))) break;
    require_few(all.size() + 1, where);
    all.push_back(integers ? Json(static_cast<int64_t>(std::llround(at))) : Json(at));
  }
  KVLAB_REQUIRE(!all.empty(), "E_CONFIG", where, ": range: holds no value (from ", from, " to ", to,
                ")");
  return all;
}

/// {"a": [1, 2], "b": [3, 4]} -> {"a": 1, "b": 3}, {"a": 2, "b": 4}
std::vector<Json> zip(const Json& lists, std::string_view where) {
  KVLAB_REQUIRE(lists.is_object() && !lists.empty(), "E_CONFIG", where,
                ": zip: must be an object of lists");
  std::vector<Json> rows;
  for (const auto& [key, list] : lists.items()) {
    KVLAB_REQUIRE(list.is_array() && !list.empty(), "E_CONFIG", where, ": zip: `", printable(key),
                  "` must be a list of at least one value");
    if (rows.empty()) rows.resize(list.size(), Json::object());
    KVLAB_REQUIRE(list.size() == rows.size(), "E_CONFIG", where, ": zip: `", printable(key),
                  "` has ", list.size(), " values, the list before it ", rows.size());
    for (size_t i = 0; i < rows.size(); ++i) rows[i][key] = list[i];
  }
  return rows;
}

/// The product of what is there with one more choice; `put` places a value into a copy.
template <class Put>
std::vector<Json> product(const std::vector<Json>& all, const std::vector<Json>& choices,
                          std::string_view where, const Put& put) {
  require_few(all.size() * choices.size(), where);
  std::vector<Json> more;
  for (const Json& base : all) {
    for (const Json& choice : choices) {
      more.push_back(base);
      put(more.back(), choice);
    }
  }
  return more;
}

std::vector<Json> expand_object(const Json& value, std::string_view where) {
  std::vector<Json> all{Json::object()};
  for (const auto& [key, member] : value.items()) {
    if (key == "zip") {
      all = product(all, zip(member, where), where,
                    [](Json& to, const Json& row) { to.update(row); });
    } else {
      all = product(all, expand(member, where), where,
                    [&name = key](Json& to, const Json& one) { to[name] = one; });
    }
  }
  return all;
}

}  // namespace

std::vector<Json> expand(const Json& value, std::string_view where) {
  if (is_word(value, "sweep")) return sweep(value.at("sweep"), where);
  if (is_word(value, "range")) return range(value.at("range"), where);
  if (value.is_object()) return expand_object(value, where);
  if (!value.is_array()) return {value};
  std::vector<Json> all{Json::array()};
  for (const Json& element : value) {
    all = product(all, expand(element, where), where,
                  [](Json& to, const Json& one) { to.push_back(one); });
  }
  return all;
}

}  // namespace kvlab
