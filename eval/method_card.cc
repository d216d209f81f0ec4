#include "eval/method_card.h"

#include <cmath>
#include <cstdio>
#include <numeric>

#include "core/cache.h"
#include "core/error.h"
#include "eval/experiment/config.h"
#include "eval/experiment/summary.h"
#include "eval/text_table.h"

namespace kvlab {
namespace {

constexpr int64_t kChunk = 512;

Rope plain_rope(int head_dim) {
  Rope rope{.style = Rope::Style::half_split, .rotary_dim = head_dim};
  for (int c = 0; c < head_dim / 2; ++c) {
    rope.inv_freq.push_back(std::pow(10000.0, -2.0 * c / head_dim));
  }
  return rope;
}

/// Zeros for every field a layer may ask for, `rows` of them.
struct ZeroRows {
  ZeroRows(const ModelShape& shape, int64_t rows) {
    const Layer& layer = shape.layers[0];
    const auto zeros = [&](Tensor& tensor, int64_t heads, int64_t dim) {
      tensor = make_tensor("zeros", Dtype::bf16, {rows, heads, dim});
    };
    hidden = make_tensor("zeros", Dtype::bf16, {rows, shape.width});
    zeros(keys, layer.num_kv_heads, layer.head_dim);
    zeros(values, layer.num_kv_heads, layer.value_dim);
    zeros(queries, layer.num_heads, layer.head_dim);
    zeros(out, layer.num_heads, layer.value_dim);
    ids.resize(static_cast<size_t>(rows), 0);
  }
  Tensor hidden{}, keys{}, values{}, queries{}, out{};
  std::vector<int32_t> ids{};
};

Append append_of(Needs needs, const RowMap& rows, const ZeroRows& zeros) {
  Append append{.rows = rows};
  const Range part{0, rows.size()};
  if (has(needs, Needs::hidden)) append.hidden = zeros.hidden.view.rows(part);
  if (has(needs, Needs::keys_pre_rope)) append.keys_pre_rope = zeros.keys.view.rows(part);
  if (has(needs, Needs::keys)) append.keys = zeros.keys.view.rows(part);
  if (has(needs, Needs::values)) append.values = zeros.values.view.rows(part);
  if (has(needs, Needs::queries)) append.queries = zeros.queries.view.rows(part);
  if (has(needs, Needs::token_ids)) append.token_ids = std::span(zeros.ids).first(part.last);
  return append;
}

void prefill(Cache& cache, SeqId sequence, int64_t tokens) {
  const ZeroRows zeros(cache.shape(), kChunk);
  for (int64_t at = 0; at < tokens; at += kChunk) {
    const int64_t rows = std::min(kChunk, tokens - at);
    std::vector<int32_t> positions(static_cast<size_t>(rows));
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(at));
    const int32_t indptr[] = {0, static_cast<int32_t>(rows)};
    const RowMap map{{&sequence, 1}, indptr, positions};
    cache.begin_chunk(
        {.rows = map, .token_ids = std::span(zeros.ids).first(static_cast<size_t>(rows))});
    cache.append(append_of(cache.needs(0, rows), map, zeros));
    // One query is enough for what follows a layer's attention to happen.
    const int32_t last[] = {0, 1};
    cache.attend({.layer = 0,
                  .rows = {{&sequence, 1}, last, std::span(positions).last(1)},
                  .queries = zeros.queries.view.rows({0, 1}),
                  .out = zeros.out.view.rows({0, 1})});
    cache.end_chunk(at + rows == tokens ? ChunkEnd::prompt : ChunkEnd::chunk);
  }
}

Json parameter_json(const Parameter& parameter) {
  Json json{{"name", parameter.name},
            {"types", parameter.types},
            {"doc", parameter.doc},
            {"unit", parameter.unit},
            {"required", parameter.required}};
  if (!parameter.required) json["default"] = parameter.standard;
  if (!parameter.minimum.is_null()) json["minimum"] = parameter.minimum;
  if (!parameter.maximum.is_null()) json["maximum"] = parameter.maximum;
  if (!parameter.choices.empty()) json["choices"] = parameter.choices;
  return json;
}

Json capabilities_json(const Capabilities& c) {
  Json refuses = Json::array();
  for (const ReadPolicy policy : c.refuses) refuses.push_back(name_of(policy));
  return {{"exact", c.exact},
          {"causal_write", c.causal_write},
          {"alters_weights", c.alters_weights},
          {"truncatable", c.truncatable},
          {"deterministic", c.deterministic},
          {"chunk_separable", c.chunk_separable},
          {"position_free", c.position_free},
          {"needs_artifact", c.needs_artifact},
          {"unrotated_keys", c.unrotated_keys},
          {"refuses", std::move(refuses)},
          {"frees", c.frees}};
}

Json bytes_json(const TokenBytes& bytes) {
  Json json{{"shape", bytes.shape}, {"tokens", bytes.tokens}};
  if (!bytes.refused.empty()) {
    json["refused"] = bytes.refused;
    return json;
  }
  json.update({{"bytes_per_token", bytes.bytes_per_token},
               {"metadata_per_token", bytes.metadata_per_token},
               {"residual_per_token", bytes.residual_per_token},
               {"slack_per_token", bytes.slack_per_token},
               {"dense_per_token", bytes.dense_per_token},
               {"cr", bytes.dense_per_token / bytes.bytes_per_token}});
  return json;
}

std::string range_text(const Json& parameter) {
  if (parameter.contains("choices")) return parameter.at("choices").dump();
  const bool low = parameter.contains("minimum"), high = parameter.contains("maximum");
  if (!low && !high) return "";
  return (low ? parameter.at("minimum").dump() : "") + ".." +
         (high ? parameter.at("maximum").dump() : "");
}

std::string number_text(const Json& number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", number.get<double>());
  return text;
}

std::string parameters_text(const Json& stage) {
  if (stage.at("parameters").empty()) return "no parameters\n";
  TextTable table({"parameter", "value", "default", "allowed", "unit", "meaning"});
  for (const Json& p : stage.at("parameters")) {
    const std::string name = p.at("name");
    table.add({name, stage.at("params").value(name, Json()).dump(),
               p.contains("default") ? p.at("default").dump() : "required", range_text(p),
               p.at("unit"), p.at("doc")});
  }
  return table.markdown();
}

std::string bytes_text(const Json& rows) {
  TextTable table(
      {"shape", "bytes/token", "metadata", "not compressed yet", "slack", "dense 16 bit", "cr"});
  for (const Json& row : rows) {
    if (row.contains("refused")) {
      table.add({row.at("shape"), row.at("refused"), "", "", "", "", ""});
      continue;
    }
    char cr[32];
    std::snprintf(cr, sizeof cr, "%.3f", row.at("cr").get<double>());
    table.add({row.at("shape"), number_text(row.at("bytes_per_token")),
               number_text(row.at("metadata_per_token")), number_text(row.at("residual_per_token")),
               number_text(row.at("slack_per_token")), number_text(row.at("dense_per_token")), cr});
  }
  return table.markdown();
}

}  // namespace

const std::vector<NamedShape>& named_shapes() {
  static const std::vector<NamedShape> shapes = {{"Llama-2-7B", 32, 32, 32, 128},
                                                 {"Llama-3-8B, Mistral-7B", 32, 32, 8, 128},
                                                 {"tiny (6 layers, 6 heads of 48)", 6, 6, 6, 48}};
  return shapes;
}

ModelShape one_layer(const NamedShape& shape) {
  ModelShape one{.architecture = "llama", .fingerprint = "shape:" + shape.name};
  one.width = shape.num_heads * shape.head_dim;
  one.vocab_size = 1;
  one.max_positions = 1 << 20;
  one.layers.push_back({.num_heads = shape.num_heads,
                        .num_kv_heads = shape.num_kv_heads,
                        .head_dim = shape.head_dim,
                        .value_dim = shape.head_dim,
                        .scale = 1 / std::sqrt(static_cast<double>(shape.head_dim)),
                        .rope = plain_rope(shape.head_dim)});
  return one;
}

Composition example_composition(const std::vector<MethodSpec>& specs, const ModelShape& shape,
                                const Registry& registry) {
  return compose(specs, shape, registry, nullptr, Dtype::bf16, {}, MissingArtifact::example);
}

TokenBytes measure_token_bytes(const std::vector<MethodSpec>& specs, const NamedShape& shape,
                               const Registry& registry, std::shared_ptr<Engine> engine,
                               int64_t tokens) {
  TokenBytes result{.shape = shape.name, .tokens = tokens};
  const ModelShape one = one_layer(shape);
  const double scale = static_cast<double>(shape.num_layers) / static_cast<double>(tokens);
  try {
    check_composition(specs, one, registry, MissingArtifact::example);
    Cache cache(one, example_composition(specs, one, registry), registry,
                {.engine = std::move(engine), .run_dtype = Dtype::bf16});
    prefill(cache, cache.add_sequence(), tokens);
    const Bytes bytes = cache.bytes();
    result.bytes_per_token = scale * static_cast<double>(bytes.cache_bytes());
    result.metadata_per_token = scale * static_cast<double>(bytes.metadata);
    result.residual_per_token = scale * static_cast<double>(bytes.residual);
    result.slack_per_token = scale * static_cast<double>(bytes.slack());
    result.dense_per_token = shape.num_layers * static_cast<double>(dense_bytes_per_token(one));
  } catch (const Error& error) {
    if (error.code() == "E_INTERNAL") throw;
    result.refused = error.what();
  }
  return result;
}

Json method_card(const std::vector<MethodSpec>& specs, const Registry& registry,
                 std::shared_ptr<Engine> engine, int64_t tokens) {
  Json stages = Json::array();
  for (const MethodSpec& spec : specs) {
    const Method& method = registry.method(spec.name);
    Json parameters = Json::array();
    for (const Parameter& parameter : registry.method_schema(spec.name).parameters()) {
      parameters.push_back(parameter_json(parameter));
    }
    stages.push_back({{"name", spec.name},
                      {"summary", method.summary},
                      {"params", spec.params},
                      {"parameters", std::move(parameters)},
                      {"prepared", static_cast<bool>(method.prepare)},
                      {"paper", static_cast<bool>(method.paper)}});
  }
  Json bytes = Json::array();
  for (const NamedShape& shape : named_shapes()) {
    bytes.push_back(bytes_json(measure_token_bytes(specs, shape, registry, engine, tokens)));
  }
  Json card{{"method", method_title(specs, registry)},
            {"stages", std::move(stages)},
            {"bytes_per_token", std::move(bytes)}};
  try {
    const Composition composition =
        example_composition(specs, one_layer(named_shapes()[0]), registry);
    card["capabilities"] = capabilities_json(composition.capabilities);
  } catch (const Error& error) {
    card["refused"] = error.what();
  }
  return card;
}

std::string method_card_text(const Json& card) {
  std::string text = "# " + card.at("method").get<std::string>() + "\n";
  for (const Json& stage : card.at("stages")) {
    text += "\n" + stage.at("name").get<std::string>() + ": " +
            stage.at("summary").get<std::string>() + "\n\n" + parameters_text(stage);
    if (stage.at("paper")) {
      text += "\ntables of its paper: `kvlab info " + stage.at("name").get<std::string>() +
              " --paper`\n";
    }
  }
  if (card.contains("capabilities")) {
    const Json& c = card.at("capabilities");
    text += std::string("\nreads: ") + (c.at("exact") ? "exact, bit for bit" : "lossy") + "\n";
    text +=
        "read policies refused: " + (c.at("refuses").empty() ? "none" : c.at("refuses").dump()) +
        "\n";
    for (const char* name : {"causal_write", "alters_weights", "truncatable", "chunk_separable",
                             "position_free", "needs_artifact"}) {
      text += std::string(name) + ": " + (c.at(name) ? "yes" : "no") + "\n";
    }
  }
  text += "\nStored after a prefill of " + card.at("bytes_per_token")[0].at("tokens").dump() +
          " tokens, bfloat16 run, all layers, read from the cache's own accounting:\n\n" +
          bytes_text(card.at("bytes_per_token"));
  return text;
}

}  // namespace kvlab
