#include "methods/slim/factors.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/torch.h"

namespace kvlab::slim {
namespace {

constexpr std::array<std::string_view, 9> kModes{
    "dense",      "keys",   "keys_shaped", "keys_side", "keys_shaped_side",
    "keys_basis", "keys24", "input",       "klt"};

struct Field {
  std::string_view name;
  at::Tensor Factors::* tensor;
};
constexpr std::array<Field, 9> kFields{{{"rows", &Factors::rows},
                                        {"shaping", &Factors::shaping},
                                        {"side_input", &Factors::side_input},
                                        {"side_row", &Factors::side_row},
                                        {"key_up", &Factors::key_up},
                                        {"key_bias", &Factors::key_bias},
                                        {"value_up", &Factors::value_up},
                                        {"value_bias", &Factors::value_bias},
                                        {"side_up", &Factors::side_up}}};

std::string tensor_name(int layer, std::string_view field) {
  return std::to_string(layer) + "." + std::string(field);
}

}  // namespace

std::string_view name_of(Mode mode) { return kModes[static_cast<size_t>(mode)]; }

bool has_side(Mode mode) {
  return mode == Mode::keys_side || mode == Mode::keys_shaped_side || mode == Mode::keys_basis;
}
bool shapes_rounding(Mode mode) {
  return mode == Mode::keys_shaped || mode == Mode::keys_shaped_side || mode == Mode::keys_basis;
}

Mode mode_named(std::string_view name) {
  const auto found = std::ranges::find(kModes, name);
  KVLAB_REQUIRE(found != kModes.end(), "E_UNKNOWN", "slim: no mode `", name, "`",
                suggestion(name, std::vector<std::string>(kModes.begin(), kModes.end())));
  return static_cast<Mode>(found - kModes.begin());
}

bool takes_keys(const Factors& factors, const Site& site) {
  return factors.mode == Mode::keys && site.rotary == Rotary::full && !factors.key_bias.defined() &&
         factors.width() == site.key_width();
}

void put(const Factors& factors, int layer, std::vector<Tensor>& tensors) {
  for (const Field& field : kFields)
    if (const at::Tensor& tensor = factors.*field.tensor; tensor.defined())
      tensors.push_back(hold(tensor_name(layer, field.name), tensor.contiguous()));
}

Factors factors_of(const Artifact& artifact, int layer, Mode mode, bool keys_are_slices) {
  Factors factors{.mode = mode, .keys_are_slices = keys_are_slices};
  for (const Field& field : kFields)
    if (const std::string name = tensor_name(layer, field.name); artifact.has(name))
      factors.*field.tensor = to_torch(artifact.tensor(name));
  return factors;
}

}  // namespace kvlab::slim
