// Any text: strict JSON with a canonical form that is a fixed point, or one sentence.

#include "core/json.h"

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvlab;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Json value;
  if (!fuzz::accepts({"E_FORMAT"}, [&] { value = parse_json(text, "input"); })) return 0;
  const std::string once = canonical(value);
  fuzz::require(parse_json(once, "canonical") == value, "the canonical form says the same");
  fuzz::require(canonical(parse_json(once, "canonical")) == once, "it is its own canonical form");
  return 0;
}
