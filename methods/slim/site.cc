#include "methods/slim/site.h"

#include <algorithm>
#include <sstream>

namespace kvlab::slim {
namespace {

template <class... Parts>
std::string sentence(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

Rotary rotary_of(const Layer& layer) {
  if (!layer.rope) return Rotary::none;
  return layer.rope.rotary_dim < layer.head_dim ? Rotary::partial : Rotary::full;
}

std::string refusal_of(const Site& site, const Layer& layer, int64_t readers) {
  if (layer.qk_norm != Layer::Norm::none)
    return sentence("SLIM_E_NORM: layer ", site.layer,
                    ": keys are normalised between their projection and their scores, so values "
                    "are no linear map of stored keys; use quant");
  const int64_t width = site.row_width(), dense = site.dense_width() * readers;
  if (dense > width) return {};
  return sentence("SLIM_E_NO_SAVING: layer ", site.layer, ": c = ", dense, " / ", width, " = ",
                  static_cast<double>(dense) / static_cast<double>(width), ": a row that gives ",
                  site.num_kv_heads, " kv heads exactly needs ", width,
                  " numbers, as many as keys and values have or more",
                  site.shares_heads ? " (grouped queries already share heads)" : "",
                  "; use a lossy low-rank method (Palu) or quant");
}

}  // namespace

int64_t Site::row_width() const {
  return rotary == Rotary::none ? model_width : std::max(kept_keys(), model_width);
}

Site site_of(const ModelShape& shape, int index) {
  const Layer& layer = shape.layers[static_cast<size_t>(index)];
  Site site{.layer = index,
            .kind = layer.kind,
            .model_width = shape.width,
            .num_kv_heads = layer.num_kv_heads,
            .head_dim = layer.head_dim,
            .value_dim = layer.value_dim,
            .rotary = rotary_of(layer),
            .rotary_dim = layer.rope ? layer.rope.rotary_dim : 0,
            .interleaved = layer.rope.style == Rope::Style::interleaved,
            .shares_heads = layer.num_heads > layer.num_kv_heads};
  const auto reads_encoder = [](const Layer& other) { return other.kind == Layer::Kind::cross; };
  int64_t readers = 1;
  if (site.is_cross()) {
    readers = std::ranges::count_if(shape.layers, reads_encoder);
    site.shares_rows_with =
        static_cast<int>(std::ranges::find_if(shape.layers, reads_encoder) - shape.layers.begin());
  }
  site.refusal = refusal_of(site, layer, readers);
  return site;
}

}  // namespace kvlab::slim
