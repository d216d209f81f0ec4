#include "methods/slim/example.h"

#include <ATen/ops/arange.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "methods/slim/choose.h"

namespace kvlab::slim {
namespace {

/// Numbers of both signs, none of them tiny.
at::Tensor any_map(std::initializer_list<int64_t> sizes) {
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  return at::arange(count, at::kFloat).remainder_(17).sub_(8).div_(64).view(sizes).contiguous();
}

Factors any_factors(const Site& site, Mode mode, int64_t side) {
  const int64_t heads = site.num_kv_heads, d = site.head_dim, dv = site.value_dim;
  const int64_t width =
      mode == Mode::input ? site.model_width : std::max(site.key_width(), site.model_width);
  Factors f{.mode = mode, .keys_are_slices = site.rotary == Rotary::full};
  if (mode != Mode::input) f.rows = any_map({site.model_width, width});
  if (shapes_rounding(mode)) f.shaping = any_map({width, width});
  if (!f.keys_are_slices) f.key_up = any_map({heads, d, width});
  if (mode == Mode::keys_basis) f.key_up = any_map({heads, d, d});
  f.value_up = any_map({heads, dv, width});
  if (has_side(mode)) {
    f.side_input = any_map({site.model_width, side});
    f.side_row = any_map({width, side});
    f.side_up = any_map({heads, dv, side});
  }
  if (takes_keys(f, site)) f.rows = at::Tensor();
  return f;
}

}  // namespace

Artifact example(const Setup& setup) {
  const Wish wish(*setup.params);
  const std::string store = setup.params->at("store");
  Json layers = Json::array();
  std::vector<Tensor> tensors;
  for (int l = 0; l < std::ssize(setup.shape->layers); ++l) {
    const Site site = site_of(*setup.shape, l);
    Mode mode = wish.mode.value_or(site.rotary == Rotary::none ? Mode::input : Mode::keys);
    if (!site.saves()) mode = Mode::dense;
    const Factors f = mode == Mode::dense
                          ? Factors{}
                          : any_factors(site, mode, wish.side > 0 ? wish.side : usual_side(site));
    if (mode != Mode::dense) put(f, l, tensors);
    layers.push_back({{"mode", name_of(mode)},
                      {"keys_are_slices", f.keys_are_slices},
                      {"shares_rows_with", site.shares_rows_with}});
  }
  Json header{{"method", "slim"},
              {"method_params", *setup.params},
              {"model", setup.shape->fingerprint},
              {"store", store.empty() ? name_of(setup.run_dtype) : store},
              {"layers", std::move(layers)}};
  return {std::move(header), std::move(tensors)};
}

}  // namespace kvlab::slim
