#include "eval/model.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/schema.h"
#include "eval/models/huggingface.h"
#include "eval/models/recall2.h"

namespace kvlab {
namespace {

HuggingFaceSpec huggingface(const Json& spec) {
  HuggingFaceSpec result{.directory = spec["path"].get<std::string>()};
  if (const auto& dtype = spec["dtype"]; dtype != "auto")
    result.dtype = dtype_named(dtype.get<std::string>());
  if (spec["longrope"] == "long") result.longrope = LongRope::for_long;
  return result;
}

Recall2Spec recall2(const Json& spec) {
  return {.num_heads = spec["heads"].get<int>(),
          .num_kv_heads = spec["kv_heads"].get<int>(),
          .dtype = dtype_named(spec["dtype"].get<std::string>())};
}

/// A kind of model: what its specification may say, and what is made from one that is complete.
struct Kind {
  std::string_view name;    // of a builtin; empty: a directory
  std::string_view schema;  // see core/schema.h
  ModelOutline (*outline)(const Json&);
  std::unique_ptr<Model> (*load)(const Json&);
};

constexpr std::string_view kDirectorySchema = R"({
  "path": {"type": "string", "doc": "a Hugging Face directory"},
  "dtype": {"type": "string", "default": "auto",
            "choices": ["auto", "float32", "bfloat16", "float16"],
            "doc": "run dtype; auto is what config.json states"},
  "longrope": {"type": "string", "default": "short", "choices": ["short", "long"],
               "doc": "which of LongRoPE's frequencies: up to the pretrained length, or beyond"},
  "device": {"type": "string", "default": "cpu", "choices": ["cpu"], "doc": "where it runs"}})";

constexpr std::string_view kRecall2Schema = R"({
  "builtin": {"type": "string", "choices": ["recall2"], "doc": "the constructed recall model"},
  "heads": {"type": "integer", "default": 1, "minimum": 1, "maximum": 64, "doc": "query heads"},
  "kv_heads": {"type": "integer", "default": 1, "minimum": 1, "maximum": 64, "doc": "kv heads"},
  "dtype": {"type": "string", "default": "float32",
            "choices": ["float32", "bfloat16", "float16"], "doc": "run dtype"},
  "device": {"type": "string", "default": "cpu", "choices": ["cpu"], "doc": "where it runs"}})";

constexpr std::array<Kind, 2> kKinds{
    {{"", kDirectorySchema, [](const Json& spec) { return huggingface_outline(huggingface(spec)); },
      [](const Json& spec) { return load_huggingface(huggingface(spec)); }},
     {"recall2", kRecall2Schema,
      [](const Json& spec) { return outline_of(recall2_config(recall2(spec))); },
      [](const Json& spec) { return make_decoder_model(make_recall2(recall2(spec))); }}}};

const Kind& kind_of(const Json& spec) {
  KVLAB_REQUIRE(spec.is_object() && spec.contains("path") != spec.contains("builtin"), "E_CONFIG",
                "model: must be an object with either `path` (a Hugging Face directory) or "
                "`builtin` (\"recall2\")");
  if (spec.contains("path")) return kKinds[0];
  KVLAB_REQUIRE(spec["builtin"].is_string(), "E_CONFIG", "model: `builtin` must be a string");
  const auto name = spec["builtin"].get<std::string>();
  std::vector<std::string> known;
  for (const Kind& kind : kKinds) {
    if (!kind.name.empty() && kind.name == name) return kind;
    if (!kind.name.empty()) known.emplace_back(kind.name);
  }
  fail("E_UNKNOWN", "model: builtin `", name, "`", suggestion(name, known));
}

/// The specification with defaults, all values of their types and ranges.
Json completed(const Kind& kind, const Json& spec) {
  return Schema::parse(kind.schema, "model").complete(spec, "model");
}

}  // namespace

ModelOutline outline_of(const Json& spec) {
  const Kind& kind = kind_of(spec);
  return kind.outline(completed(kind, spec));
}

void Model::encode(Cache&, const EncoderPass&) {
  fail("E_UNSUPPORTED", shape().architecture, ": has no encoder");
}

ModelShape shape_of(const Json& spec) { return outline_of(spec).shape; }

int32_t begin_token_of(const Json& spec) { return outline_of(spec).begin_token; }

std::unique_ptr<Model> load_model(const Json& spec) {
  const Kind& kind = kind_of(spec);
  return kind.load(completed(kind, spec));
}

Tensor forward_logits(Model& model, Cache& cache, const Pass& pass) {
  const int64_t vocab = model.shape().vocab_size;
  Tensor all = make_tensor("logits", Dtype::f32, {static_cast<int64_t>(pass.wanted.size()), vocab});
  model.forward(cache, pass, [&all](int64_t first, TensorView block) {
    KVLAB_CHECK(block.is_contiguous() && block.dtype == Dtype::f32);
    std::memcpy(all.view.at(first), block.data,
                static_cast<size_t>(block.numel() * size_of(Dtype::f32)));
  });
  return all;
}

}  // namespace kvlab
