// What a cache stands for: keys before RoPE and values of some positions, computed in double from
// what is stored.  For tests, for blending and for people who look; attention never comes here.

#include <algorithm>
#include <cmath>

#include "core/cache/impl.h"
#include "core/cache/row_columns.h"

namespace kvlab {

using cache::Sequence;

namespace {

/// Decoded rows [n, units, width].
struct Decoded {
  std::vector<float> numbers{};
  TensorView view{};
  const float* row(int64_t i, int64_t unit) const {
    return numbers.data() + (i * view.size(1) + unit) * view.size(2);
  }
};

/// Rows of one layer at given positions; a position below 0 is a row of zeros.
class StoredRows {
 public:
  StoredRows(const cache::Impl& cache, const cache::LayerPlan& source, Sequence& one,
             std::vector<int32_t> positions)
      : cache_(cache), source_(source), one_(one), positions_(std::move(positions)) {}

  Decoded stream(std::string_view name) const {
    const auto stream = std::ranges::find_if(source_.streams, [&](const cache::Stream& candidate) {
      return candidate.owner == cache::kLayout && candidate.spec.name == name;
    });
    const int64_t count = std::ssize(positions_), units = stream->spec.units,
                  width = stream->spec.width;
    Decoded out{.numbers = std::vector<float>(at(std::max<int64_t>(count * units * width, 1)))};
    out.view = dense_view(out.numbers.data(), Dtype::f32, {count, units, width});
    Sequence* const only[] = {&one_};
    for (const Part part : {Part::first, Part::past, Part::recent}) {
      std::vector<Placement> where;
      for (int l = 0; l < cache_.group(stream->group).lists; ++l)
        for (int64_t i = 0; i < count; ++i)
          if (const auto [lies_in, slot] = find(stream->group, l, i); lies_in == part)
            where.push_back({.row = static_cast<int32_t>(i), .list = l, .slot = slot});
      if (where.empty()) continue;
      PartView view;
      cache_.view(stream->group, part, only, view);
      cache_.engine->decode(
          {.from = &view, .stream = stream->index, .rows = out.view, .where = where});
    }
    cache_.engine->sync();
    return out;
  }

  /// A column of the layout as its bytes; lists agree on it.
  std::vector<u8> column(const Column& column) const {
    const int64_t size = size_of(column.dtype);
    std::vector<u8> out(at(std::max<int64_t>(std::ssize(positions_) * size, 1)));
    for (int64_t i = 0; i < std::ssize(positions_); ++i) {
      const auto [part, slot] = find(source_.main, 0, i);
      if (part == Part::chunk) continue;
      const PageLayout& page = cache_.page(source_.main, part);
      const u8* const from = column_at(page, cache_.list(one_, source_.main, 0)[part].view(),
                                       page.column(column.name), slot);
      std::copy_n(from, size, out.data() + i * size);
    }
    return out;
  }

  std::span<const int32_t> positions() const { return positions_; }

 private:
  /// Where the next query reads row `i` of a list; in `chunk`, where nothing lies, for no row.
  std::pair<Part, int64_t> find(int g, int l, int64_t i) const {
    const int32_t p = positions_[at(i)];
    if (p < 0) return {Part::chunk, 0};
    const RowList& rows = cache_.list(one_, g, l);
    for (const Part part : {Part::first, Part::past, Part::recent}) {
      const PageLayout& page = cache_.page(g, part);
      if (page.bytes == 0 || (part != Part::first && p < cache_.group(g).first)) continue;
      ListView view = rows[part].view();
      if (part == Part::recent) view.first = std::max(view.first, rows.pending);
      cache::RowColumns columns(page, view, cache_.offset_of(g, part));
      const int64_t slot = columns.lower_bound(p);
      if (slot < view.last && !columns.is_hole(slot) && columns.position(slot) == p &&
          (cache_.group(g).cross || columns.until_or_forever(slot) >= one_.seen))
        return {part, slot};
    }
    fail("E_POSITION", "cache: materialise: position ", p, " of sequence ",
         static_cast<int64_t>(one_.id), " on layer ", cache_.group(g).layer,
         " is not held any more, or not yet");
  }

  const cache::Impl& cache_;
  const cache::LayerPlan& source_;
  Sequence& one_;
  std::vector<int32_t> positions_;
};

/// Row c of a head's map, times x.
double mapped(const TensorView& up, int64_t head, int64_t c, std::span<const float> x) {
  const auto* const weights = reinterpret_cast<const float*>(up.at(head)) + c * up.stride(1);
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i)
    sum += double{weights[static_cast<int64_t>(i) * up.stride(2)]} * x[i];
  return sum;
}

/// Adds what an operand makes of the rows to out [n, Hkv, dim].
void add_operand(const StoredRows& rows, const Layout& stored, const Operand& operand,
                 std::span<double> out, int64_t heads, int64_t dim) {
  const Decoded stream = rows.stream(operand.stream);
  const int64_t units = stream.view.size(1), width = stream.view.size(2);
  std::vector<u8> scales;
  if (!operand.row_scale.empty()) {
    const Column& column = *std::ranges::find(stored.columns, operand.row_scale, &Column::name);
    KVLAB_REQUIRE(column.dtype == Dtype::f32, "E_UNSUPPORTED", "cache: materialise: column `",
                  column.name, "` scales rows and is ", name_of(column.dtype), ", not float32");
    scales = rows.column(column);
  }
  const bool is_own = operand.map == Operand::Map::own;
  const bool is_slice = operand.map == Operand::Map::slice;
  const int64_t taken = is_slice ? dim : width;
  for (int64_t i = 0; i < stream.view.size(0); ++i)
    for (int64_t h = 0; h < heads; ++h) {
      const float* const x = stream.row(i, h * units / heads) + (is_slice ? h * dim : 0);
      const double scale = scales.empty() ? 1 : reinterpret_cast<const float*>(scales.data())[i];
      double* const to = out.data() + (i * heads + h) * dim;
      for (int64_t c = 0; c < dim; ++c) {
        to[c] += scale * (is_own || !operand.up ? x[c] : mapped(operand.up, h, c, {x, at(taken)}));
        if (!is_own && operand.bias)
          to[c] += reinterpret_cast<const float*>(operand.bias.at(h))[c * operand.bias.stride(1)];
      }
    }
}

/// Turns keys [n, Hkv, d] back by their positions.
void turn_back(const Rope& rope, std::span<const int32_t> positions, std::span<double> keys,
               int64_t heads, int64_t dim) {
  const int64_t pairs = rope.rotary_dim / 2;
  const bool is_split = rope.style == Rope::Style::half_split;
  for (int64_t i = 0; i < std::ssize(positions); ++i)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t c = 0; c < pairs; ++c) {
        double* const key = keys.data() + (i * heads + h) * dim;
        double& x = key[is_split ? c : 2 * c];
        double& y = key[is_split ? c + pairs : 2 * c + 1];
        const double angle = positions[at(i)] * rope.inv_freq[at(c)];
        const double cos = std::cos(angle) / rope.attention_factor,
                     sin = std::sin(angle) / rope.attention_factor;
        const double turned = x * cos + y * sin;
        y = y * cos - x * sin;
        x = turned;
      }
}

void check_view(int layer, std::string_view name, const TensorView& view, int64_t rows,
                int64_t heads, int64_t dim) {
  KVLAB_REQUIRE(view && view.dtype == Dtype::f32 && view.dims == 3 && view.is_contiguous() &&
                    view.size(0) == rows && view.size(1) == heads && view.size(2) == dim,
                "E_SHAPE", "cache: materialise: ", name, " of layer ", layer,
                " are wanted as dense float32 [", rows, ", ", heads, ", ", dim, "]");
}

void write(std::span<const double> from, const TensorView& to) {
  std::ranges::transform(from, to.as<float>(), [](double x) { return static_cast<float>(x); });
}

}  // namespace

void cache::Impl::materialise(int layer, SeqId id, Range positions, TensorView keys,
                              TensorView values) {
  const LayerPlan& plan = plan_of(layer, "materialise");
  KVLAB_REQUIRE(plan.source >= 0, "E_LAYER", "cache: materialise: layer ", layer, " reads no rows");
  Sequence& one = sequence(id, "materialise");
  require_closed(one, "materialise");
  const Layer& site = shape.layers[at(layer)];
  const int64_t seen = site.kind == Layer::Kind::cross ? one.encoder_seen : one.seen;
  KVLAB_REQUIRE(positions.first >= 0 && positions.first <= positions.last && positions.last <= seen,
                "E_POSITION", "cache: materialise: positions [", positions.first, ", ",
                positions.last, ") of ", seen, " tokens");
  const int64_t count = positions.size(), heads = site.num_kv_heads;
  check_view(layer, "keys", keys, count, heads, site.head_dim);
  check_view(layer, "values", values, count, heads, site.value_dim);
  if (count == 0) return;
  engine->sync();
  const LayerPlan& source = layers.plans[at(plan.source)];
  std::vector<int32_t> wanted;
  for (int64_t p = positions.first - plan.layout.halo; p < positions.last; ++p)
    wanted.push_back(static_cast<int32_t>(std::max<int64_t>(p, -1)));
  const StoredRows rows(*this, source, one, std::move(wanted));
  if (plan.layout.rebuilds) {
    std::vector<Decoded> streams;
    std::vector<std::vector<u8>> columns;
    std::vector<TensorView> stream_views, column_views;
    for (const StreamSpec& spec : source.layout.streams) streams.push_back(rows.stream(spec.name));
    for (const Decoded& stream : streams) stream_views.push_back(stream.view);
    for (const Column& column : source.layout.columns) columns.push_back(rows.column(column));
    for (size_t c = 0; c < columns.size(); ++c)
      column_views.push_back(dense_view(columns[c].data(), source.layout.columns[c].dtype,
                                        {std::ssize(rows.positions())}));
    composition.project->rebuild({.layer = layer,
                                  .sequence = id,
                                  .streams = stream_views,
                                  .columns = column_views,
                                  .positions = rows.positions(),
                                  .halo = plan.layout.halo,
                                  .keys = keys,
                                  .values = values});
    return;
  }
  std::vector<double> k(at(count * heads * site.head_dim)), v(at(count * heads * site.value_dim));
  add_operand(rows, source.layout, plan.layout.key, k, heads, site.head_dim);
  if (site.rope && !plan.layout.key.rotate)
    turn_back(site.rope, rows.positions(), k, heads, site.head_dim);
  for (const Operand& operand : plan.layout.values)
    add_operand(rows, source.layout, operand, v, heads, site.value_dim);
  write(k, keys);
  write(v, values);
}

}  // namespace kvlab
