#pragma once
// Sentences with places to fill.

#include <string>
#include <string_view>

namespace kvlab::corpus {

/// What goes into {k} (a key), {v} (its value) and {t} (what the value is: "number").
struct Filling {
  std::string_view k{}, v{}, t{};
};

inline std::string filled(std::string_view form, const Filling& filling) {
  std::string text;
  for (size_t i = 0; i < form.size(); ++i) {
    const bool is_place = form[i] == '{' && i + 2 < form.size() && form[i + 2] == '}';
    const char place = is_place ? form[i + 1] : '\0';
    if (place == 'k')
      text += filling.k;
    else if (place == 'v')
      text += filling.v;
    else if (place == 't')
      text += filling.t;
    else {
      text += form[i];
      continue;
    }
    i += 2;
  }
  return text;
}

}  // namespace kvlab::corpus
