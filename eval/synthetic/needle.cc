#include "eval/synthetic/needle.h"

namespace kvlab {

std::string joined(std::span<const std::string> items, std::string_view separator) {
  std::string text;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += separator;
    text += items[i];
  }
  return text;
}

std::string listed(std::span<const std::string> items) {
  if (items.size() < 2) return joined(items, "");
  return joined(items.first(items.size() - 1), ", ") + ", and " + items.back();
}

std::string needle_sentence(ValueKind kind, const std::string& key, const std::string& value) {
  return "The secret " + std::string(singular(kind)) + " of " + key + " is " + value + ".";
}

std::string needle_question(ValueKind kind, std::span<const std::string> keys, bool one_value) {
  const std::string what = one_value ? "What is the secret " + std::string(singular(kind))
                                     : "What are all the secret " + std::string(name_of(kind));
  return what + " of " + listed(keys) + "?";
}

std::string needle_answer_prefix(ValueKind kind, std::span<const std::string> keys,
                                 bool one_value) {
  return " The secret " + std::string(one_value ? singular(kind) : name_of(kind)) + " of " +
         listed(keys) + (one_value ? " is" : " are");
}

}  // namespace kvlab
