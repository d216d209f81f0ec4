#include "core/json.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/files.h"

namespace kvlab {
namespace {

constexpr size_t kMaxDepth = 64;

/// Hands characters to the parser and tells everybody how far it has come: nlohmann's handlers are
/// not told where they are.
struct Cursor {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  const char* at = nullptr;
  const char** furthest = nullptr;
  reference operator*() const { return *at; }
  Cursor& operator++() {
    *furthest = ++at;
    return *this;
  }
  bool operator==(const Cursor& other) const { return at == other.at; }
};

/// "line 3, column 5" of the last character before `end`; columns count characters.
std::string place(std::string_view text, size_t end) {
  const std::string_view before = text.substr(0, end == 0 ? 0 : end - 1);
  const size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  const auto is_first_byte = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  const auto lines = 1 + std::ranges::count(before, '\n');
  const auto columns = 1 + std::ranges::count_if(before.substr(line_start), is_first_byte);
  return "line " + std::to_string(lines) + ", column " + std::to_string(columns);
}

/// The reason in what nlohmann says, without its own error numbers and positions.
std::string reason_in(std::string_view what) {
  const auto drop_through = [&](std::string_view mark) {
    if (const size_t at = what.find(mark); at != what.npos) what.remove_prefix(at + mark.size());
  };
  drop_through("] ");
  if (what.starts_with("parse error at ")) drop_through(": ");
  return printable(what, 160);
}

/// Builds a value; refuses what strict JSON leaves open (depth, duplicate keys).
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, std::string_view where) : text_(text), where_(where) {}

  Json parse() {
    if (const size_t zero = text_.find('\0'); zero != text_.npos)  // the parser would stop there
      refuse(zero + 1, "a zero byte");
    const Cursor first{text_.data(), &furthest_}, last{text_.data() + text_.size(), &furthest_};
    Json::sax_parse(first, last, this);
    return std::move(root_);
  }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // no text holds one
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto [entry, is_new] = open_.back()->get_ref<Json::object_t&>().try_emplace(name);
    if (!is_new) refuse(consumed(), "key `" + printable(name) + "` appears twice");
    member_ = &entry->second;
    return true;
  }

  bool parse_error(std::size_t byte, const std::string&, const Json::exception& error) override {
    refuse(byte == 0 ? consumed() : byte, reason_in(error.what()));
  }

 private:
  size_t consumed() const { return static_cast<size_t>(furthest_ - text_.data()); }

  [[noreturn]] void refuse(size_t end, const std::string& reason) const {
    fail("E_FORMAT", where_, ": ", place(text_, std::min(end, text_.size())), ": ", reason);
  }

  Json* place_for(Json&& value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (open_.back()->is_object()) return &(*member_ = std::move(value));
    return &open_.back()->get_ref<Json::array_t&>().emplace_back(std::move(value));
  }

  bool put(Json&& value) {
    place_for(std::move(value));
    return true;
  }

  bool open(Json&& container) {
    if (open_.size() == kMaxDepth)
      refuse(consumed(), "nested more than " + std::to_string(kMaxDepth) + " deep");
    open_.push_back(place_for(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_, where_;
  const char* furthest_ = text_.data();
  Json root_{};
  std::vector<Json*> open_{};  // containers around the next value; only the last one grows
  Json* member_ = nullptr;
};

void append_number(double value, std::string& out) {
  KVLAB_REQUIRE(std::isfinite(value), "E_NONFINITE", "JSON: ", value, " has no JSON form");
  char text[64];
  const auto print = [&](std::chars_format format) {
    return std::string_view(text, std::to_chars(text, text + sizeof text, value, format).ptr);
  };
  const std::string_view scientific = print(std::chars_format::scientific);
  int exponent = 0;
  const char* digits = scientific.data() + scientific.find('e') + 1;
  std::from_chars(digits + (*digits == '+'), scientific.end(), exponent);
  if (exponent < -4 || exponent >= 16) {
    out += scientific;
    return;
  }
  const std::string_view fixed = print(std::chars_format::fixed);
  out += fixed;
  if (fixed.find('.') == fixed.npos) out += ".0";
}

void append_string(const std::string& value, std::string& out) {
  try {
    out += Json(value).dump();
  } catch (const Json::type_error&) {
    fail("E_FORMAT", "JSON: the string `", printable(value), "` is not UTF-8");
  }
}

void append_canonical(const Json& value, std::string& out) {
  if (value.is_object()) {
    char mark = '{';
    for (const auto& [name, member] : value.items()) {
      out += mark;
      append_string(name, out);
      out += ':';
      append_canonical(member, out);
      mark = ',';
    }
    out += value.empty() ? "{}" : "}";
  } else if (value.is_array()) {
    char mark = '[';
    for (const Json& element : value) {
      out += mark;
      append_canonical(element, out);
      mark = ',';
    }
    out += value.empty() ? "[]" : "]";
  } else if (value.is_number_float()) {
    append_number(value.get<double>(), out);
  } else if (value.is_string()) {
    append_string(value.get_ref<const std::string&>(), out);
  } else {
    out += value.dump();
  }
}

char lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

/// Insertions, deletions, replacements and swaps of neighbours that turn a into b, case aside
/// (optimal string alignment); three rows of the table suffice.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> older(b.size() + 1), old(b.size() + 1), now(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) now[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(older, old);
    std::swap(old, now);
    now[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool equal = lower(a[i - 1]) == lower(b[j - 1]);
      now[j] = std::min({old[j] + 1, now[j - 1] + 1, old[j - 1] + (equal ? 0 : 1)});
      if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
          lower(a[i - 2]) == lower(b[j - 1]))
        now[j] = std::min(now[j], older[j - 2] + 1);
    }
  }
  return now[b.size()];
}

}  // namespace

Json parse_json(std::string_view text, std::string_view where) {
  return Builder(text, where).parse();
}

Json read_json(const std::filesystem::path& path, int64_t max_bytes) {
  return parse_json(read_file(path, max_bytes), printable(path.native(), 400));
}

std::string canonical(const Json& value) {
  std::string out;
  append_canonical(value, out);
  return out;
}

std::string nearest_name(std::string_view name, std::span<const std::string> known) {
  const std::string* nearest = nullptr;
  size_t smallest = 0;
  for (const std::string& candidate : known) {
    const auto [shorter, longer] = std::minmax({name.size(), candidate.size()});
    const size_t most = std::max<size_t>(1, shorter / 3);  // one slip in three letters
    if (shorter == 0 || longer - shorter > most) continue;
    const size_t distance = edit_distance(name, candidate);
    if (distance > most || distance >= shorter || (nearest != nullptr && distance >= smallest))
      continue;
    nearest = &candidate;
    smallest = distance;
  }
  return nearest == nullptr ? "" : *nearest;
}

std::string suggestion(std::string_view name, std::span<const std::string> known) {
  constexpr size_t kShown = 20;
  if (const std::string near = nearest_name(name, known); !near.empty())
    return "; did you mean `" + printable(near) + "`?";
  if (known.empty()) return "; there are none";
  std::string list = "; known: ";
  for (size_t i = 0; i < std::min(known.size(), kShown); ++i)
    list += (i == 0 ? "" : ", ") + printable(known[i]);
  if (known.size() > kShown) list += " and " + std::to_string(known.size() - kShown) + " more";
  return list;
}

}  // namespace kvlab
