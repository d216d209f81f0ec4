#include "eval/models/fields.h"

#include <cmath>
#include <utility>

#include "core/error.h"

namespace kvlab {
namespace {

/// What a field holds, short enough for a sentence.
std::string shown(const Json& value) {
  return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60);
}

/// JSON writers differ in whether a whole number is 4096 or 4096.0.
std::optional<int64_t> whole(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  constexpr double kExact = 9007199254740992.0;  // 2^53: integers beyond are not all doubles
  if (!(std::abs(number) <= kExact) || number != std::floor(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

std::string between(int64_t least, int64_t most) {
  return "must be an integer in " + std::to_string(least) + ".." + std::to_string(most);
}

}  // namespace

Fields::Fields(const Json& object, std::string where) : object_(&object), where_(std::move(where)) {
  KVLAB_REQUIRE(object.is_object(), "E_FORMAT", where_, ": is ", shown(object),
                ", must be a JSON object");
}

bool Fields::has(std::string_view name) const {
  const auto found = object_->find(name);
  return found != object_->end() && !found->is_null();
}

const Json& Fields::at(std::string_view name) const {
  KVLAB_REQUIRE(has(name), "E_FORMAT", where_, ": has no `", name, "`, which is required");
  return *object_->find(name);
}

void Fields::refuse(std::string_view name, std::string_view must) const {
  fail("E_FORMAT", where_, ": `", name, "` is ",
       has(name) ? shown(*object_->find(name)) : std::string("absent"), ", ", must);
}

int64_t Fields::integer(std::string_view name, int64_t least, int64_t most) const {
  const std::optional<int64_t> value = whole(at(name));
  if (!value || *value < least || *value > most) refuse(name, between(least, most));
  return *value;
}

int64_t Fields::integer_or(std::string_view name, int64_t otherwise, int64_t least,
                           int64_t most) const {
  return has(name) ? integer(name, least, most) : otherwise;
}

double Fields::number(std::string_view name) const {
  const Json& value = at(name);
  if (!value.is_number() || !std::isfinite(value.get<double>()))
    refuse(name, "must be a finite number");
  return value.get<double>();
}

double Fields::number_or(std::string_view name, double otherwise) const {
  return has(name) ? number(name) : otherwise;
}

bool Fields::boolean_or(std::string_view name, bool otherwise) const {
  if (!has(name)) return otherwise;
  if (!at(name).is_boolean()) refuse(name, "must be true or false");
  return at(name).get<bool>();
}

std::string Fields::text(std::string_view name) const {
  if (!at(name).is_string()) refuse(name, "must be a string");
  return at(name).get<std::string>();
}

std::string Fields::text_or(std::string_view name, std::string_view otherwise) const {
  return has(name) ? text(name) : std::string(otherwise);
}

std::vector<std::string> Fields::texts(std::string_view name) const {
  const Json& list = at(name);
  if (!list.is_array()) refuse(name, "must be a list of strings");
  std::vector<std::string> all;
  for (const Json& one : list) {
    if (!one.is_string()) refuse(name, "must be a list of strings");
    all.push_back(one.get<std::string>());
  }
  return all;
}

std::vector<double> Fields::numbers(std::string_view name, int64_t count) const {
  const Json& list = at(name);
  const std::string must = "must be a list of " + std::to_string(count) + " finite numbers";
  if (!list.is_array() || static_cast<int64_t>(list.size()) != count) refuse(name, must);
  std::vector<double> all;
  for (const Json& one : list) {
    if (!one.is_number() || !std::isfinite(one.get<double>())) refuse(name, must);
    all.push_back(one.get<double>());
  }
  return all;
}

std::vector<int64_t> Fields::integers_or_one(std::string_view name, int64_t least,
                                             int64_t most) const {
  if (!has(name)) return {};
  const Json& value = at(name);
  if (!value.is_array()) return {integer(name, least, most)};
  std::vector<int64_t> all;
  for (const Json& one : value) {
    const std::optional<int64_t> item = whole(one);
    if (!item || *item < least || *item > most)
      refuse(name, between(least, most) + " or a list of such");
    all.push_back(*item);
  }
  return all;
}

Fields Fields::object(std::string_view name) const {
  if (!at(name).is_object()) refuse(name, "must be an object");
  return {at(name), where_ + ": " + std::string(name)};
}

}  // namespace kvlab
