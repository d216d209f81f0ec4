#include "core/registry.h"

#include <algorithm>

#include "core/error.h"

namespace kvlab {
namespace {

bool is_name(std::string_view name) {
  const auto is_letter = [](char c) { return 'a' <= c && c <= 'z'; };
  const auto is_digit = [](char c) { return '0' <= c && c <= '9'; };
  return !name.empty() && is_letter(name[0]) &&
         std::ranges::all_of(name, [&](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

template <class Entries, class T>
void add_to(Entries& entries, T value, std::string_view kind) {
  KVLAB_REQUIRE(is_name(value.name), "E_CONFIG", kind, " `", printable(value.name),
                "`: a name is a lower-case letter and then letters, digits and `_`");
  KVLAB_REQUIRE(value.name != kComposeName, "E_CONFIG", kind, " `", value.name,
                "`: this name means several methods at once");
  KVLAB_REQUIRE(!entries.contains(value.name), "E_CONFIG", kind, " `", value.name,
                "` is already registered; give this one another name");
  Schema schema = Schema::parse(value.schema, value.name);
  std::string name = value.name;
  entries.try_emplace(std::move(name), std::move(value), std::move(schema));
}

template <class Entries>
std::vector<std::string> names_of(const Entries& entries) {
  std::vector<std::string> names;
  for (const auto& [name, unused] : entries) names.push_back(name);
  return names;
}

template <class Entries>
const auto& find_in(const Entries& entries, std::string_view name, std::string_view kind) {
  const auto found = entries.find(name);
  if (found == entries.end())
    fail("E_UNKNOWN", "there is no ", kind, " `", printable(name), "`",
         suggestion(name, names_of(entries)));
  return found->second;
}

}  // namespace

void Registry::add(Method method) { add_to(methods_, std::move(method), "method"); }
void Registry::add(Codec codec) { add_to(codecs_, std::move(codec), "codec"); }

const Method& Registry::method(std::string_view name) const {
  return find_in(methods_, name, "method").value;
}
const Codec& Registry::codec(std::string_view name) const {
  return find_in(codecs_, name, "codec").value;
}
const Schema& Registry::method_schema(std::string_view name) const {
  return find_in(methods_, name, "method").schema;
}
const Schema& Registry::codec_schema(std::string_view name) const {
  return find_in(codecs_, name, "codec").schema;
}
bool Registry::has_method(std::string_view name) const { return methods_.contains(name); }
bool Registry::has_codec(std::string_view name) const { return codecs_.contains(name); }
std::vector<std::string> Registry::methods() const { return names_of(methods_); }
std::vector<std::string> Registry::codecs() const { return names_of(codecs_); }

}  // namespace kvlab
