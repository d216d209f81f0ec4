// The `methods` of a config: specs that describe themselves and compose or do not, or one sentence.

#include "core/compose.h"
#include "tests/fuzz/fuzz.h"

namespace kvlab {
namespace {

constexpr const char* kKeepSchema = R"({
    "per_head": {"type": "boolean", "default": false, "doc": "a list per kv head"},
    "sinks": {"type": "integer", "default": 0, "doc": "protected"},
    "flags": {"type": "boolean", "default": false, "doc": "by age"},
    "reindexes": {"type": "boolean", "default": false, "doc": "renumbers"}})";

struct Keep : Select {
  explicit Keep(const Json& params)
      : chosen{.granularity = params["per_head"] ? Scope::head : Scope::layer,
               .flags = params["flags"],
               .sinks = params["sinks"],
               .reindexes = params["reindexes"]} {}
  Selection selection(int) const override { return chosen; }
  Selection chosen;
};

constexpr const char* kLatentSchema = R"({
    "units": {"type": "integer", "default": 1, "minimum": -2, "maximum": 1000, "doc": "u"},
    "width": {"type": "integer", "default": 8, "minimum": -2, "maximum": 1000, "doc": "w"},
    "rotate": {"type": "boolean", "default": true, "doc": "r"},
    "rows_of": {"type": "integer", "default": -1, "minimum": -9, "maximum": 9, "doc": "r"},
    "halo": {"type": "integer", "default": 0, "minimum": -9, "maximum": 9, "doc": "h"}})";

struct Latent : Project {
  explicit Latent(Json given) : params(std::move(given)) {}
  Layout layout(int layer) const override {
    Layout all{.key = {.map = Operand::Map::up, .stream = "row", .rotate = params["rotate"]},
               .values = {{.map = Operand::Map::up, .stream = "row"}},
               .rebuilds = params["halo"] > 0,
               .halo = params["halo"]};
    if (layer > 0 && params["rows_of"] >= 0)
      all.rows_of = params["rows_of"];
    else
      all.streams = {{.name = "row", .units = params["units"], .width = params["width"]}};
    return all;
  }
  Needs needs(int, int64_t) const override { return Needs::hidden; }
  void rows(const Append&, NewRows&) const override {}
  Json params;
};

constexpr const char* kBitsSchema = R"({
    "codec": {"type": "string", "default": "four", "doc": "any name"},
    "params": {"type": "string", "default": "", "doc": "its JSON"},
    "recent": {"type": "integer", "default": 0, "doc": "as they came"}})";

const Registry& registry() {
  static const Registry kRegistry = [] {
    Registry all;
    all.add(Method{.name = "dense"});
    all.add(Method{.name = "keep", .schema = kKeepSchema, .stages = [](const Setup& setup) {
                     return Stages{.select = std::make_shared<Keep>(*setup.params)};
                   }});
    all.add(Method{.name = "latent", .schema = kLatentSchema, .stages = [](const Setup& setup) {
                     return Stages{.project = std::make_shared<Latent>(*setup.params)};
                   }});
    all.add(Method{.name = "bits", .schema = kBitsSchema, .stages = [](const Setup& setup) {
                     const auto stream = [p = *setup.params](int, const StreamSpec&) {
                       return Encoding{.codec = p["codec"], .params = p["params"]};
                     };
                     return Stages{
                         .encode = Encode{.stream = stream, .recent = (*setup.params)["recent"]}};
                   }});
    all.add(Codec{.name = "four", .layout = [](int width, const Json&) {
                    return Encoded{.planes = {{.row_bytes = (width + 1) / 2}}};
                  }});
    return all;
  }();
  return kRegistry;
}

ModelShape shape() {
  const Rope rope{.style = Rope::Style::half_split, .rotary_dim = 2, .inv_freq = {1.0}};
  const Layer layer{
      .num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .value_dim = 8, .scale = 1, .rope = rope};
  return {.architecture = "fuzz",
          .width = 8,
          .vocab_size = 8,
          .max_positions = 8,
          .layers = {layer, layer, layer}};
}

}  // namespace
}  // namespace kvlab

void kvlab::fuzz::target(std::string_view text) {
  std::vector<MethodSpec> specs;
  const bool parsed = fuzz::accepts({"E_FORMAT", "E_CONFIG", "E_UNKNOWN"}, [&] {
    specs = parse_methods(parse_json(text, "input"), registry());
  });
  if (!parsed) return;
  const Json described = describe(specs);
  const Json again = {{"name", kComposeName}, {"params", {{"stages", described}}}};
  fuzz::require(describe(parse_methods(again, registry())) == described, "descriptions parse");

  for (const MethodSpec& spec : specs)
    if (!spec.artifact.empty()) return;  // a path of this machine
  fuzz::accepts({"E_COMPOSE", "E_SHAPE", "E_CONFIG", "E_UNKNOWN", "E_FORMAT"}, [&] {
    const Composition composition = check_composition(specs, shape(), registry());
    for (const ReadPolicy policy : {ReadPolicy::raw_chunk, ReadPolicy::stored, ReadPolicy::masked})
      fuzz::accepts({"E_READ_POLICY"}, [&] { check_read_policy(composition, policy); });
  });
}
