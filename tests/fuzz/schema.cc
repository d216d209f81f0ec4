// {"schema": ..., "given": ...}: parameters that are complete and stay so, or one sentence.

#include "core/schema.h"

#include "tests/fuzz/fuzz.h"

void kvlab::fuzz::target(std::string_view text) {
  Json input;
  if (!fuzz::accepts({"E_FORMAT"}, [&] { input = parse_json(text, "input"); })) return;
  if (!input.is_object() || !input.contains("schema") || !input.contains("given")) return;

  Schema schema;
  const std::string declared = canonical(input["schema"]);
  // The schema is one level less deep here than inside the input, so depth cannot be refused.
  const auto codes = {std::string_view("E_CONFIG"), std::string_view("E_UNKNOWN")};
  if (!fuzz::accepts(codes, [&] { schema = Schema::parse(declared, "fuzz"); })) return;
  Json complete;
  if (!fuzz::accepts(codes, [&] { complete = schema.complete(input["given"], "fuzz"); })) return;
  for (const Parameter& parameter : schema.parameters())
    fuzz::require(complete.contains(parameter.name), "every parameter has a value");
  fuzz::require(complete.size() == schema.parameters().size(), "and there are no others");
  fuzz::require(canonical(schema.complete(complete, "fuzz")) == canonical(complete), "idempotent");
}
