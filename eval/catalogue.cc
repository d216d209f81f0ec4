#include "eval/catalogue.h"

#include <algorithm>

#include "core/error.h"

namespace kvlab {
namespace {

bool is_name(std::string_view text) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !text.empty() && text[0] >= 'a' && text[0] <= 'z' &&
         std::all_of(text.begin(), text.end(), allowed);
}

template <class T>
using Named = std::map<std::string, T, std::less<>>;

template <class T>
void add_to(Named<T>& all, T value, std::string_view kind) {
  KVLAB_REQUIRE(is_name(value.name), "E_CONFIG", kind, " `", value.name,
                "`: a name is [a-z][a-z0-9_]*");
  KVLAB_REQUIRE(!all.contains(value.name), "E_CONFIG", kind, " `", value.name,
                "`: there is one of this name already");
  std::string name = value.name;
  all.emplace(std::move(name), std::move(value));
}

template <class T>
std::vector<std::string> names(const Named<T>& all) {
  std::vector<std::string> list;
  for (const auto& [name, value] : all) list.push_back(name);
  return list;
}

template <class T>
const T& find(const Named<T>& all, std::string_view name, std::string_view kind) {
  const auto found = all.find(name);
  KVLAB_REQUIRE(found != all.end(), "E_UNKNOWN", "no ", kind, " `", printable(name), "`",
                suggestion(name, names(all)));
  return found->second;
}

}  // namespace

void Catalogue::add(Task task) { add_to(tasks_, std::move(task), "task"); }
void Catalogue::add(Metric metric) { add_to(metrics_, std::move(metric), "metric"); }
void Catalogue::add(Protocol protocol) { add_to(protocols_, std::move(protocol), "protocol"); }
const Task& Catalogue::task(std::string_view name) const { return find(tasks_, name, "task"); }
const Metric& Catalogue::metric(std::string_view name) const {
  return find(metrics_, name, "metric");
}
const Protocol& Catalogue::protocol(std::string_view name) const {
  return find(protocols_, name, "protocol");
}
std::vector<std::string> Catalogue::tasks() const { return names(tasks_); }
std::vector<std::string> Catalogue::protocols() const { return names(protocols_); }

}  // namespace kvlab
