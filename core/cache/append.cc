// append: what a layer hands over, and how its rows enter their lists.

#include <algorithm>

#include "core/cache/appended_rows.h"
#include "core/cache/impl.h"

namespace kvlab {
namespace {

using cache::Step;

struct Field {
  Needs need;
  std::string_view name;
};
constexpr std::array<Field, 6> kFields{{{Needs::hidden, "hidden"},
                                        {Needs::keys_pre_rope, "keys_pre_rope"},
                                        {Needs::keys, "keys"},
                                        {Needs::values, "values"},
                                        {Needs::queries, "queries"},
                                        {Needs::token_ids, "token_ids"}}};

std::string names_of(Needs needs) {
  std::string names;
  for (const Field& field : kFields)
    if (has(needs, field.need)) names += (names.empty() ? "" : ", ") + std::string(field.name);
  return names.empty() ? "nothing" : names;
}

Needs given_in(const Append& append) {
  Needs given = Needs::none;
  const auto note = [&](bool present, Needs need) {
    if (present) given = given | need;
  };
  note(static_cast<bool>(append.hidden), Needs::hidden);
  note(static_cast<bool>(append.keys_pre_rope), Needs::keys_pre_rope);
  note(static_cast<bool>(append.keys), Needs::keys);
  note(static_cast<bool>(append.values), Needs::values);
  note(static_cast<bool>(append.queries), Needs::queries);
  note(!append.token_ids.empty(), Needs::token_ids);
  return given;
}

std::string shape_of(const TensorView& view) {
  std::string text = "[";
  for (int i = 0; i < view.dims; ++i) text += (i > 0 ? ", " : "") + std::to_string(view.size(i));
  return text + "] " + std::string(name_of(view.dtype));
}

void check_tensor(int layer, std::string_view name, const TensorView& view, Dtype dtype,
                  std::initializer_list<int64_t> sizes) {
  if (!view) return;
  const TensorView wanted = dense_view(view.data, dtype, sizes);
  bool fits = view.dtype == dtype && view.dims == wanted.dims;
  for (int i = 0; fits && i < view.dims; ++i) fits = view.size(i) == wanted.size(i);
  KVLAB_REQUIRE(fits, "E_SHAPE", "cache: append to layer ", layer, ": ", name, " is ",
                shape_of(view), ", not ", shape_of(wanted));
  KVLAB_REQUIRE(view.size(view.dims - 1) <= 1 || view.stride(view.dims - 1) == 1, "E_SHAPE",
                "cache: append to layer ", layer, ": the features of ", name,
                " are not contiguous");
}

void check_fields(const ModelShape& shape, Dtype run, const Append& given, Needs wanted) {
  const Needs present = given_in(given);
  KVLAB_REQUIRE(present == wanted, "E_NEEDS", "cache: append to layer ", given.layer, " was given ",
                names_of(present), " and wants ", names_of(wanted), " for ", given.rows.size(),
                " rows");
  const Layer& site = shape.layers[static_cast<size_t>(given.layer)];
  const int64_t rows = given.rows.size();
  check_tensor(given.layer, "hidden", given.hidden, run, {rows, shape.width});
  check_tensor(given.layer, "keys_pre_rope", given.keys_pre_rope, run,
               {rows, site.num_kv_heads, site.head_dim});
  check_tensor(given.layer, "keys", given.keys, run, {rows, site.num_kv_heads, site.head_dim});
  check_tensor(given.layer, "values", given.values, run, {rows, site.num_kv_heads, site.value_dim});
  check_tensor(given.layer, "queries", given.queries, run, {rows, site.num_heads, site.head_dim});
  KVLAB_REQUIRE(given.token_ids.empty() || std::ssize(given.token_ids) == rows, "E_SHAPE",
                "cache: append to layer ", given.layer, ": ", given.token_ids.size(),
                " token ids for ", rows, " rows");
}

/// The rows every layer of an appending pass must bring: the pass's own.
void check_same_rows(const cache::OpenChunk& chunk, const Append& given) {
  const bool same = std::ranges::equal(given.rows.sequences, chunk.ids) &&
                    std::ranges::equal(given.rows.indptr, chunk.indptr) &&
                    std::ranges::equal(given.rows.positions, chunk.positions);
  KVLAB_REQUIRE(same, "E_POSITION", "cache: append to layer ", given.layer, " brings ",
                given.rows.size(), " rows that are not the ", chunk.rows(),
                " rows the pass began with");
}

}  // namespace

bool cache::Impl::appends(int layer) const {
  const bool crosses = shape.layers[static_cast<size_t>(layer)].kind == Layer::Kind::cross;
  return layers.plans[static_cast<size_t>(layer)].stores && crosses == chunk.encoder;
}

Needs cache::Impl::needs(int layer, int64_t rows) const {
  const cache::LayerPlan& plan = plan_of(layer, "needs");
  const bool crosses = shape.layers[static_cast<size_t>(layer)].kind == Layer::Kind::cross;
  if (chunk.is_open && plan.stores && crosses != chunk.encoder) return Needs::none;
  Needs wanted = Needs::none;
  if (plan.is_dense)
    wanted = Needs::values | (plan.layout.key.rotate ? Needs::keys_pre_rope : Needs::keys);
  else if (composition.project)
    wanted = composition.project->needs(layer, rows);
  if (!(chunk.is_open && chunk.replaces()))
    for (size_t s = 0; s < plan.selections.size(); ++s)
      wanted = wanted | composition.selects[s]->needs(layer, rows);
  return wanted;
}

void cache::Impl::extend(int layer) {
  const cache::LayerPlan& plan = layers.plans[static_cast<size_t>(layer)];
  for (const int g : {plan.main, plan.all}) {
    if (g < 0) continue;
    const Group& rules = group(g);
    for (Sequence* one : chunk.sequences) {
      const Range pass = span(*one);
      const int64_t in_first = std::clamp<int64_t>(rules.first - pass.first, 0, pass.size());
      for (int l = 0; l < rules.lists; ++l) {
        RowList& rows = list(*one, g, l);
        if (in_first > 0) rows[Part::first].extend(in_first);
        rows[entry_part(rules)].extend(pass.size() - in_first);
        if (!keeps_raw(rules)) continue;
        rows[Part::chunk].start_at(pass.first);
        rows[Part::chunk].extend(pass.size());
      }
    }
  }
}

void cache::Impl::check_turn(const Append& given) const {
  const cache::LayerPlan& plan = plan_of(given.layer, "append");
  const Step step = chunk.steps[static_cast<size_t>(given.layer)];
  KVLAB_REQUIRE(step == Step::waiting, "E_ORDER", "cache: layer ", given.layer,
                " has appended in this pass already");
  for (int above = given.layer + 1; above < static_cast<int>(layers.plans.size()); ++above)
    KVLAB_REQUIRE(chunk.steps[static_cast<size_t>(above)] == Step::waiting, "E_ORDER",
                  "cache: layer ", given.layer, " appends after layer ", above,
                  "; layers append in rising order");
  KVLAB_REQUIRE(!plan.stores || appends(given.layer), "E_ORDER", "cache: layer ", given.layer,
                chunk.encoder ? " stores no encoder tokens; in an encoder pass only cross layers "
                                "append"
                              : " stores encoder tokens; append it in a pass with `encoder` set");
}

void cache::Impl::append(const Append& given) {
  const cache::Stopwatch storing(storing_seconds);
  require_open("append");
  check_turn(given);
  if (chunk.replaces())
    check_rows_of_pass(given);
  else
    check_same_rows(chunk, given);
  check_fields(shape, where.run_dtype, given, needs(given.layer, given.rows.size()));
  const cache::Work work(chunk);
  settle_below(given.layer);
  if (plan_of(given.layer, "append").stores) {
    if (!chunk.replaces()) extend(given.layer);
    rows->start(given);
    if (chunk.replaces()) save_old(given.layer);
    fill(given);
    place(given.layer);
  }
  chunk.steps[static_cast<size_t>(given.layer)] = Step::appended;
  moved(given.layer);
  note_scratch();
}

void cache::Impl::fill(const Append& given) {
  const cache::LayerPlan& plan = layers.plans[static_cast<size_t>(given.layer)];
  rows->speaks(cache::kLayout);
  if (plan.is_dense) {
    rows->take("key", plan.layout.key.rotate ? given.keys_pre_rope : given.keys);
    rows->take("value", given.values);
  } else {
    composition.project->rows(given, *rows);
  }
  if (chunk.replaces()) return;
  for (int s = 0; s < static_cast<int>(plan.selections.size()); ++s) {
    rows->speaks(s);
    composition.selects[static_cast<size_t>(s)]->admit(given, *rows);
  }
  rows->check_flags();
}

void cache::Impl::place(int layer) {
  rows->place_columns();
  rows->place_streams();
  const int g = layers.plans[static_cast<size_t>(layer)].main;
  if (g < 0 || group(g).cross || chunk.replaces()) return;
  // Read encoded as soon as they are due; otherwise tiles wait until the layer has attended.
  if (!chunk.is_raw() && group(g).lossy && !group(g).direct) form_tiles(g);
}

}  // namespace kvlab
