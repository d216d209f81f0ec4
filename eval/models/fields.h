#pragma once
// Fields of a JSON file that somebody else wrote (config.json, an index of shards).  Unknown keys
// are none of our business; a key we do read must hold what it should.  null counts as absent,
// because Hugging Face writes it so.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace kvlab {

/// Every error is E_FORMAT: the file, the field, what it holds, what is allowed.
class Fields {
 public:
  /// `object` must outlive the fields; `where` names it in errors ("DIR/config.json").
  Fields(const Json& object, std::string where);

  const std::string& where() const { return where_; }
  bool has(std::string_view name) const;

  int64_t integer(std::string_view name, int64_t least, int64_t most) const;
  int64_t integer_or(std::string_view name, int64_t otherwise, int64_t least, int64_t most) const;
  /// Finite.
  double number(std::string_view name) const;
  double number_or(std::string_view name, double otherwise) const;
  bool boolean_or(std::string_view name, bool otherwise) const;
  std::string text(std::string_view name) const;
  std::string text_or(std::string_view name, std::string_view otherwise) const;
  std::vector<std::string> texts(std::string_view name) const;
  std::vector<double> numbers(std::string_view name, int64_t count) const;
  /// One integer or a list of them; empty when absent.
  std::vector<int64_t> integers_or_one(std::string_view name, int64_t least, int64_t most) const;
  Fields object(std::string_view name) const;
  const Json& json() const { return *object_; }

  /// E_FORMAT about one field: "DIR/config.json: `head_dim` is 7, must be even".
  [[noreturn]] void refuse(std::string_view name, std::string_view must) const;

 private:
  const Json& at(std::string_view name) const;
  const Json* object_;
  std::string where_;
};

}  // namespace kvlab
