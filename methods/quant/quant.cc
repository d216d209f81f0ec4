// Integer codes with a scale and a minimum per group: the quantisers a user would take first.  Keys
// and values choose bits, group, axis and rotation separately; KIVI (arXiv 2402.02750) and KVQuant
// (arXiv 2401.18079) are points of this space.

#include <memory>
#include <string>

#include "core/error.h"
#include "core/registry.h"

namespace kvlab::quant {
namespace {

/// The four choices a side has; `key` and `value` override the common ones where they are not null.
std::string schema() {
  const std::string own = R"json("fields": {
    "bits": {"type": ["integer", "null"], "default": null, "choices": [16, 8, 4, 2], "unit": "bit",
             "doc": "null: the common one"},
    "group": {"type": ["integer", "null"], "default": null, "choices": [0, 32, 64, 128, 256],
              "unit": "element", "doc": "null: the common one"},
    "axis": {"type": ["string", "null"], "default": null, "choices": ["token", "channel"],
             "doc": "null: the common one"},
    "rotate": {"type": ["boolean", "null"], "default": null, "doc": "null: the common one"}})json";
  return R"json({
  "bits": {"type": "integer", "default": 4, "choices": [16, 8, 4, 2], "unit": "bit",
           "doc": "bits of a code; 16 stores bfloat16 or float16 as the run does"},
  "group": {"type": "integer", "default": 32, "choices": [0, 32, 64, 128, 256], "unit": "element",
            "doc": "numbers that share a scale and a minimum; 0: a whole row, axis token only"},
  "axis": {"type": "string", "default": "token", "choices": ["token", "channel"],
           "doc": "token: groups along the features of a token; channel: along tokens"},
  "rotate": {"type": "boolean", "default": false,
             "doc": "turn rows by a Hadamard matrix before coding"},
  "pre_rope": {"type": "boolean", "default": false,
               "doc": "code keys before RoPE and rotate them when they are read (KVQuant)"},
  "residual": {"type": "integer", "default": 0, "minimum": 0, "maximum": 1000000, "unit": "token",
               "doc": "newest tokens kept as they came, the query's own included (KIVI)"},
  "first": {"type": "integer", "default": 0, "minimum": 0, "maximum": 1000000, "unit": "token",
            "doc": "tokens at the start kept as they came (KVQuant's attention sinks)"},
  "window_codec": {"type": "string", "default": "",
                   "choices": ["", "float32", "bfloat16", "float16"],
                   "doc": "form of the residual and first tokens; empty: the run's own"},
  "key": {"type": "object", "default": {}, "doc": "what keys do differently", )json" +
         own + R"json(},
  "value": {"type": "object", "default": {}, "doc": "what values do differently", )json" +
         own + "}}";
}

/// How one side, keys or values, is coded.
struct Side {
  int bits = 4, group = 32;
  bool by_channel = false, rotate = false;

  Side(const Json& params, const char* side) {
    const Json& own = params.at(side);
    const auto pick = [&](const char* name) {
      const auto found = own.find(name);
      return found == own.end() || found->is_null() ? params.at(name) : *found;
    };
    bits = pick("bits");
    group = pick("group");
    by_channel = pick("axis") == "channel";
    rotate = pick("rotate");
    KVLAB_REQUIRE(!by_channel || bits == 16 || group > 0, "E_CONFIG", "quant: ", side,
                  " has `axis` channel with `group` 0; a channel's group is a number of tokens: "
                  "give 32, 64, 128 or 256");
  }

  Encoding encoding(Dtype run) const {
    if (bits == 16)
      return {.codec = run == Dtype::f16 ? "float16" : "bfloat16", .rotate_hadamard = rotate};
    const Json params = {{"group", group}, {"axis", by_channel ? "channel" : "token"}};
    return {
        .codec = "int" + std::to_string(bits), .params = params.dump(), .rotate_hadamard = rotate};
  }
};

Capabilities capabilities(const Setup& setup) {
  const Json& params = *setup.params;
  Side(params, "key"), Side(params, "value");  // refuse what cannot be
  return {.unrotated_keys = params.at("pre_rope")};
}

Stages stages(const Setup& setup) {
  const Json& params = *setup.params;
  const Side key(params, "key"), value(params, "value");
  const Dtype run = setup.run_dtype;
  return {.encode = Encode{.stream =
                               [key, value, run](int /*layer*/, const StreamSpec& stream) {
                                 return (stream.name == "value" ? value : key).encoding(run);
                               },
                           .first = params.at("first"),
                           .recent = params.at("residual"),
                           .recent_codec = params.at("window_codec")}};
}

}  // namespace

void register_method(Registry& registry) {
  registry.add(Method{.name = "quant",
                      .summary = "Integer codes per group, keys and values apart (KIVI, KVQuant).",
                      .schema = schema(),
                      .capabilities = capabilities,
                      .stages = stages});
}

}  // namespace kvlab::quant
