#include "methods/slim/site.h"

#include <algorithm>
#include <sstream>

#include "core/error.h"

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

/// Where a layer has nothing to save.
void refuse(Site& site, const Layer& layer, int64_t readers) {
  if (layer.qk_norm != Layer::Norm::none) {
    site.refusal_code = "SLIM_E_NORM";
    site.refusal = sentence("layer ", site.layer,
                            ": keys are normalised between their projection and their scores, so "
                            "values are no linear map of stored keys; use quant");
    return;
  }
  const int64_t width = site.row_width(), dense = site.dense_width() * readers;
  if (dense > width) return;
  site.refusal_code = "SLIM_E_NO_SAVING";
  site.refusal = sentence("layer ", site.layer, ": c = ", dense, " / ", width, " = ",
                          static_cast<double>(dense) / static_cast<double>(width),
                          ": a row that gives ", site.num_kv_heads, " kv heads exactly needs ",
                          width, " numbers, as many as keys and values have or more",
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
  refuse(site, layer, readers);
  return site;
}

std::vector<Site> sites_of(const ModelShape& shape) {
  std::vector<Site> sites;
  for (int l = 0; l < std::ssize(shape.layers); ++l) sites.push_back(site_of(shape, l));
  if (!sites.empty() && std::ranges::none_of(sites, &Site::saves))
    fail(sites.front().refusal_code, "slim: ", sites.front().refusal);
  return sites;
}

}  // namespace kvlab::slim
