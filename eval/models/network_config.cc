#include "eval/models/network_config.h"

namespace kvlab {

NetworkName network_name(const Fields& fields) {
  const std::vector<std::string> architectures =
      fields.has("architectures") ? fields.texts("architectures") : std::vector<std::string>{};
  NetworkName name{.model_type = fields.text_or("model_type", "")};
  if (!architectures.empty()) name.architecture = architectures.front();
  KVLAB_REQUIRE(!name.model_type.empty() || !name.architecture.empty(), "E_FORMAT", fields.where(),
                ": has neither `model_type` nor `architectures`");
  return name;
}

void refuse_network(const Fields& fields, std::span<const std::string> supported) {
  const NetworkName name = network_name(fields);
  std::string all;
  for (const std::string& one : supported) all += (all.empty() ? "" : ", ") + one;
  fail("E_UNSUPPORTED", fields.where(), ": ",
       name.model_type.empty() ? "architecture `" + printable(name.architecture)
                               : "model type `" + printable(name.model_type),
       "` is not supported; supported: ", all);
}

void refuse_quantised(const Fields& fields) {
  KVLAB_REQUIRE(!fields.has("quantization_config"), "E_UNSUPPORTED", fields.where(),
                ": `quantization_config` says the weights are quantised; kvlab reads float32, "
                "float16 and bfloat16 weights, so save the model unquantised");
}

std::optional<Dtype> stated_dtype(const Fields& fields) {
  for (const std::string_view name : {"dtype", "torch_dtype"})
    if (fields.has(name)) {
      const std::string text = fields.text(name);
      for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16})
        if (text == name_of(dtype)) return dtype;
      fields.refuse(name, "must be float32, bfloat16 or float16");
    }
  return std::nullopt;
}

std::vector<int32_t> end_tokens_of(const Fields& fields) {
  std::vector<int32_t> tokens;
  for (const int64_t end : fields.integers_or_one("eos_token_id", -1, kMostTokens - 1))
    if (end >= 0) tokens.push_back(static_cast<int32_t>(end));
  return tokens;
}

}  // namespace kvlab
