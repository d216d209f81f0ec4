#pragma once
// What the config.json files of all networks have in common.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/types.h"
#include "eval/models/fields.h"

namespace kvlab {

enum class Activation : u8 { silu, gelu, gelu_tanh, relu };

/// How an RMS norm applies its weight: to the row rounded to the run dtype (Llama, T5), or as
/// (1 + w) in float32 before rounding (Gemma).
enum class NormForm : u8 { weight, one_plus_weight };

// Far above any network, and small enough that no product of them overflows 63 bits.
inline constexpr int64_t kMostWidth = 1 << 20, kMostLayers = 1 << 10, kMostHeads = 1 << 12,
                         kMostHeadDim = 1 << 10, kMostTokens = int64_t{1} << 31;

/// What a config says it is: `model_type`, and the first of `architectures`; either may be empty.
struct NetworkName {
  std::string model_type{}, architecture{};
};
/// E_FORMAT: it says neither.
NetworkName network_name(const Fields& fields);

/// `model_type` decides; `architectures` must agree (E_UNSUPPORTED), and stands in where there is
/// no model type.  Family: has `model_type` and `architecture`.  Null: none of them.
template <class Family>
const Family* find_family(const Fields& fields, std::span<const Family> families) {
  const NetworkName name = network_name(fields);
  const auto found = std::ranges::find_if(families, [&](const Family& family) {
    return name.model_type.empty() ? family.architecture == name.architecture
                                   : family.model_type == name.model_type;
  });
  if (found == families.end()) return nullptr;
  KVLAB_REQUIRE(name.architecture.empty() || name.architecture == found->architecture,
                "E_UNSUPPORTED", fields.where(), ": architecture `", printable(name.architecture),
                "` of model type `", found->model_type,
                "` is not supported; supported: ", found->architecture);
  return &*found;
}

/// E_UNSUPPORTED naming what the config says it is, and what is supported.
[[noreturn]] void refuse_network(const Fields& fields, std::span<const std::string> supported);

/// E_UNSUPPORTED: the weights are quantised.
void refuse_quantised(const Fields& fields);

/// The run dtype a config states.
std::optional<Dtype> stated_dtype(const Fields& fields);

/// `eos_token_id`, one id or a list, of a config.json or generation_config.json.
std::vector<int32_t> end_tokens_of(const Fields& fields);

}  // namespace kvlab
