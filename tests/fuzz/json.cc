// Any text: strict JSON with a canonical form that is a fixed point, or one sentence.

#include "core/json.h"

#include "tests/fuzz/fuzz.h"

void kvlab::fuzz::target(std::string_view text) {
  Json value;
  if (!fuzz::accepts({"E_FORMAT"}, [&] { value = parse_json(text, "input"); })) return;
  const std::string once = canonical(value);
  fuzz::require(parse_json(once, "canonical") == value, "the canonical form says the same");
  fuzz::require(canonical(parse_json(once, "canonical")) == once, "it is its own canonical form");
}
