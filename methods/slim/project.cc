#include "methods/slim/project.h"

#include <ATen/core/Tensor.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "core/torch.h"

namespace kvlab::slim {
namespace {

constexpr const char* kRow = "row";
constexpr const char* kSide = "side";

TensorView view_or_none(const at::Tensor& tensor) {
  return tensor.defined() ? view_of(tensor) : TensorView{};
}

std::string codec24(Dtype stored) { return stored == Dtype::f16 ? "float24" : "bfloat24"; }

/// One entry of the header's "layers".
struct Entry {
  Mode mode = Mode::dense;
  bool keys_are_slices = true;
  int shares_rows_with = -1;
};
Entry entry_at(const Artifact& artifact, size_t layer, size_t layers) {
  try {
    const Json& all = artifact.header().at("layers");
    KVLAB_REQUIRE(all.is_array() && all.size() == layers, "E_FORMAT", "slim: the artifact has ",
                  all.size(), " layers, the model ", layers, "; run `kvlab prepare slim` anew");
    const Json& one = all.at(layer);
    return {mode_named(one.at("mode").get<std::string>()), one.at("keys_are_slices").get<bool>(),
            one.at("shares_rows_with").get<int>()};
  } catch (const Json::exception& error) {
    fail("E_FORMAT", "slim: the artifact's header is none of slim's (", error.what(),
         "); run `kvlab prepare slim` anew");
  }
}

Dtype stored_in(const Artifact& artifact) {
  const auto found = artifact.header().find("store");
  KVLAB_REQUIRE(found != artifact.header().end() && found->is_string(), "E_FORMAT",
                "slim: the artifact's header does not say in which dtype rows are stored; run "
                "`kvlab prepare slim` anew");
  return dtype_named(found->get<std::string>());
}

/// Sizes of the tensors a layer's row and operands are made of.
void check_sizes(const Site& site, const Factors& f) {
  const auto is = [](const at::Tensor& tensor, std::initializer_list<int64_t> sizes) {
    return tensor.defined() && tensor.scalar_type() == at::kFloat && tensor.is_contiguous() &&
           std::ranges::equal(tensor.sizes(), sizes);
  };
  const auto absent_or = [&](const at::Tensor& tensor, std::initializer_list<int64_t> sizes) {
    return !tensor.defined() || is(tensor, sizes);
  };
  const int64_t heads = site.num_kv_heads, d = site.head_dim, dv = site.value_dim,
                width = site.model_width;
  bool fits = f.value_up.defined() && f.value_up.dim() == 3;
  const int64_t w = fits ? f.width() : 0;
  const int64_t r = f.side_up.defined() && f.side_up.dim() == 3 ? f.side() : 0;
  fits = fits && is(f.value_up, {heads, dv, w}) && absent_or(f.value_bias, {heads, dv}) &&
         absent_or(f.key_bias, {heads, d}) && absent_or(f.rows, {width, w}) &&
         absent_or(f.shaping, {w, w}) &&
         (f.keys_are_slices ? absent_or(f.key_up, {heads, d, d}) && w >= heads * d
                            : is(f.key_up, {heads, d, w})) &&
         (r == 0 ? !f.side_up.defined()
                 : is(f.side_up, {heads, dv, r}) && is(f.side_input, {width, r}) &&
                       is(f.side_row, {w, r})) &&
         (f.rows.defined() || w == width || takes_keys(f, site));
  KVLAB_REQUIRE(fits, "E_FORMAT", "slim: the artifact's tensors of layer ", site.layer,
                " do not fit its mode `", name_of(f.mode), "`; run `kvlab prepare slim` anew");
}

/// rows float32 [n, w] -> a stream's [n, 1, w]
void write(const at::Tensor& rows, const TensorView& to) {
  to_torch(to).view({rows.size(0), rows.size(1)}).copy_(rows);
}

}  // namespace

SlimRows::SlimRows(const ModelShape& shape, const Artifact& artifact)
    : stored_(stored_in(artifact)) {
  for (size_t l = 0; l < shape.layers.size(); ++l) {
    const Entry entry = entry_at(artifact, l, shape.layers.size());
    Stored one{.site = site_of(shape, static_cast<int>(l))};
    if (entry.mode != Mode::dense) {
      one.factors = factors_of(artifact, static_cast<int>(l), entry.mode, entry.keys_are_slices);
      check_sizes(one.site, one.factors);
      one.takes_keys = takes_keys(one.factors, one.site) && !one.factors.rows.defined();
      one.reads_other = one.site.reads_other_rows();
    }
    layers_.push_back(std::move(one));
  }
}

bool SlimRows::replaces_all() const {
  return std::ranges::none_of(layers_,
                              [](const Stored& one) { return one.factors.mode == Mode::dense; });
}

Layout SlimRows::layout(int layer) const {
  const Stored& one = at(layer);
  const Factors& f = one.factors;
  if (f.mode == Mode::dense) return {};
  const bool turns = one.site.rotary != Rotary::none;
  Layout layout{.key = {.map = f.keys_are_slices ? Operand::Map::slice : Operand::Map::up,
                        .stream = kRow,
                        .up = view_or_none(f.key_up),
                        .bias = view_or_none(f.key_bias),
                        .rotate = turns},
                .values = {{.map = Operand::Map::up,
                            .stream = kRow,
                            .up = view_or_none(f.value_up),
                            .bias = view_or_none(f.value_bias)}}};
  if (f.side() > 0)
    layout.values.push_back(
        {.map = Operand::Map::up, .stream = kSide, .up = view_or_none(f.side_up)});
  if (one.reads_other) {
    layout.rows_of = one.site.shares_rows_with;
    return layout;
  }
  StreamSpec row{.name = kRow,
                 .width = static_cast<int>(f.width()),
                 .dtype = stored_,
                 .pre_rope = turns && f.keys_are_slices};
  if (f.is_24_bit()) {
    row.dtype = Dtype::f32;
    row.encoding = Encoding{.codec = codec24(stored_)};
  }
  layout.streams.push_back(std::move(row));
  if (f.side() > 0)
    layout.streams.push_back(
        {.name = kSide, .width = static_cast<int>(f.side()), .dtype = stored_});
  return layout;
}

Needs SlimRows::needs(int layer, int64_t /*rows*/) const {
  const Stored& one = at(layer);
  if (one.reads_other || one.factors.mode == Mode::dense) return Needs::none;
  return one.takes_keys ? Needs::keys_pre_rope : Needs::hidden;
}

void SlimRows::rows(const Append& append, NewRows& out) const {
  const c10::InferenceMode inference;
  const Stored& one = at(append.layer);
  const int64_t n = append.rows.size();
  if (one.takes_keys)
    return write(to_torch(append.keys_pre_rope).reshape({n, one.site.key_width()}),
                 out.stream(kRow));
  const at::Tensor x = to_torch(append.hidden);
  if (!one.factors.rows.defined()) return write(x, out.stream(kRow));
  const RowMaker::Rows made = RowMaker(one.factors, stored_).make(x);
  write(made.row, out.stream(kRow));
  if (made.side.defined()) write(made.side, out.stream(kSide));
}

}  // namespace kvlab::slim
