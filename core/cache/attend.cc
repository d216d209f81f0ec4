// attend: which rows a query may read, who computes it, and what selectors learn from it.

#include <algorithm>

#include "core/cache/impl.h"
#include "core/cache/live_rows.h"
#include "core/cache/row_columns.h"
#include "core/row_dtype.h"

namespace kvlab {

using cache::LiveView;
using cache::Sight;
using cache::Step;

namespace {

void check_shape(const Layer& site, const Attend& given, std::string_view name,
                 const TensorView& view, int64_t dim, bool floats_only) {
  const bool fits = view && view.dims == 3 && view.size(0) == given.rows.size() &&
                    view.size(1) == site.num_heads && view.size(2) == dim;
  KVLAB_REQUIRE(fits, "E_SHAPE", "cache: attend on layer ", given.layer, ": ", name, " is not [",
                given.rows.size(), ", ", site.num_heads, ", ", dim, "]");
  KVLAB_REQUIRE(!floats_only || is_row_dtype(view.dtype), "E_SHAPE", "cache: attend on layer ",
                given.layer, ": ", name, " is ", name_of(view.dtype), ", not ", kRowDtypes);
  KVLAB_REQUIRE(view.stride(2) == 1 || dim <= 1, "E_SHAPE", "cache: attend on layer ", given.layer,
                ": the features of ", name, " are not contiguous");
}

void check_distance_bias(const Layer& site, const Attend& given) {
  const TensorView& bias = given.distance_bias;
  if (site.distance_bias == 0) {
    KVLAB_REQUIRE(!bias, "E_SHAPE", "cache: attend on layer ", given.layer,
                  ": distance_bias is given, but the layer has none");
    return;
  }
  KVLAB_REQUIRE(
      bias && bias.dtype == Dtype::f32 && bias.dims == 2 && bias.size(0) == site.num_heads &&
          bias.size(1) == site.distance_bias && (bias.stride(1) == 1 || bias.size(1) == 1),
      "E_SHAPE", "cache: attend on layer ", given.layer, ": distance_bias is not float32 [",
      site.num_heads, ", ", site.distance_bias, "] with the entries of a head side by side");
}

}  // namespace

void cache::Impl::check_attend(const Attend& given) {
  require_open("attend");
  const cache::LayerPlan& plan = plan_of(given.layer, "attend");
  KVLAB_REQUIRE(plan.source >= 0, "E_LAYER", "cache: layer ", given.layer,
                " only appends, it has nothing to attend to");
  KVLAB_REQUIRE(!chunk.encoder, "E_ORDER", "cache: attend on layer ", given.layer,
                ": an encoder pass only appends");
  const bool crosses = shape.layers[at(given.layer)].kind == Layer::Kind::cross;
  if (!crosses && !chunk.replaces()) {
    const Step step = chunk.steps[at(plan.source)];
    KVLAB_REQUIRE(step != Step::waiting, "E_ORDER", "cache: attend on layer ", given.layer,
                  ": layer ", plan.source, " has not appended in this pass");
    KVLAB_REQUIRE(step == Step::appended, "E_ORDER", "cache: attend on layer ", given.layer,
                  ": a layer above the readers of layer ", plan.source,
                  " has gone on; layers attend in rising order");
  }
  check_query_rows(given.rows, crosses);
  const Layer& site = shape.layers[at(given.layer)];
  check_shape(site, given, "queries", given.queries, site.head_dim, true);
  check_shape(site, given, "out", given.out, site.value_dim, true);
  const TensorView& lse = given.lse_ln;
  KVLAB_REQUIRE(!lse || (lse.dtype == Dtype::f32 && lse.dims == 2 &&
                         lse.size(0) == given.rows.size() && lse.size(1) == site.num_heads),
                "E_SHAPE", "cache: attend on layer ", given.layer, ": lse_ln is not float32 [",
                given.rows.size(), ", ", site.num_heads, "]");
  KVLAB_REQUIRE(std::ssize(given.sinks) == (site.learned_sink ? site.num_heads : 0), "E_SHAPE",
                "cache: attend on layer ", given.layer, ": ", given.sinks.size(),
                " sink logits, not ", site.learned_sink ? site.num_heads : 0);
  check_distance_bias(site, given);
  KVLAB_REQUIRE(!given.rotated || !layers.plans[at(plan.source)].reindexes, "E_NEEDS",
                "cache: attend on layer ", given.layer,
                ": positions are renumbered, so queries come before rotation");
}

void cache::Impl::check_query_rows(const RowMap& rows, bool crosses) {
  const auto count = std::ssize(rows.sequences);
  KVLAB_REQUIRE(count > 0 && std::ssize(rows.indptr) == count + 1 && rows.indptr.front() == 0 &&
                    rows.indptr.back() == rows.size(),
                "E_SHAPE", "cache: attend: indptr of ", rows.indptr.size(), " entries for ", count,
                " sequences and ", rows.size(), " rows");
  std::vector<bool> is_asked(chunk.sequences.size());
  for (int64_t i = 0; i < count; ++i) {
    const Sequence& one = in_chunk(rows.sequences[at(i)], "attend");
    const auto id = static_cast<int64_t>(one.id);
    KVLAB_REQUIRE(!is_asked[at(one.open)], "E_SEQUENCE", "cache: attend: sequence ", id,
                  " is named twice");
    is_asked[at(one.open)] = true;
    KVLAB_REQUIRE(!crosses || one.encoder_seen > 0, "E_ORDER", "cache: attend: sequence ", id,
                  " asks a cross layer, but has no encoder tokens; append them first, in a pass ",
                  "with `encoder` set");
    const Range mine = rows.rows_of(i);
    KVLAB_REQUIRE(mine.first <= mine.last, "E_SHAPE", "cache: attend: indptr falls from ",
                  mine.first, " to ", mine.last);
    const Range allowed = crosses            ? Range{0, kForever}
                          : chunk.replaces() ? Range{0, one.seen}
                                             : span(one);
    for (int64_t row = mine.first; row < mine.last; ++row) {
      const int32_t p = rows.positions[at(row)];
      KVLAB_REQUIRE(p >= allowed.first && p < allowed.last &&
                        (row == mine.first || p > rows.positions[at(row - 1)]),
                    "E_POSITION", "cache: attend: sequence ", id, " asks at position ", p,
                    "; positions rise and lie in [", allowed.first, ", ", allowed.last, ")");
    }
  }
}

Engine& cache::Impl::engine_on(const std::optional<Device::Kind>& on) {
  if (!on || engine->device().kind == *on) return *engine;
  KVLAB_REQUIRE(where.other_engine && where.other_engine->device().kind == *on, "E_UNSUPPORTED",
                "cache: attend on ", *on == Device::Kind::cpu ? "cpu" : "cuda",
                ": the cache has no engine there; give it one as Where::other_engine");
  return *where.other_engine;
}

// ---- plans ----

std::shared_ptr<const Plan> cache::Impl::plan_for(Engine& on, int layer, const RowMap& rows,
                                                  std::span<const Segment> of) {
  const int source = layers.plans[at(layer)].source;
  const Group& rules = group(layers.plans[at(source)].main);
  bool by_content = rules.drops;  // positions are explicit: they differ from layer to layer
  for (const Segment& segment : of) {
    if (segment.narrowed) return on.plan(shape.layers[at(layer)], rows, of, where.split);
    by_content |= segment.rows.page == &page(layers.plans[at(source)].main, Part::recent) &&
                  !rules.direct && chunk.steps[at(source)] == Step::settled;  // may have holes
  }
  std::vector<int64_t>& key = plan_key;
  key.assign({layers.plans[at(layer)].shape_class, std::ssize(rows.sequences),
              by_content ? source : -1,
              by_content ? static_cast<int64_t>(versions[at(source)]) : 0});
  const bool whole = rows.positions.data() == chunk.positions.data() ||
                     (std::ranges::equal(rows.positions, chunk.positions) &&
                      std::ranges::equal(rows.indptr, chunk.indptr) &&
                      std::ranges::equal(rows.sequences, chunk.ids));
  key.push_back(whole);
  if (!whole) {
    for (const SeqId id : rows.sequences) key.push_back(static_cast<int64_t>(id));
    key.insert(key.end(), rows.indptr.begin(), rows.indptr.end());
    key.insert(key.end(), rows.positions.begin(), rows.positions.end());
  }
  for (const Segment& segment : of) {
    const PageLayout& page = *segment.rows.page;
    key.insert(key.end(), {page.page_tokens, page.bytes, page.tile_tokens, page.position < 0,
                           segment.rows.lists_per_sequence, segment.rows.position_offset,
                           segment.rows.from_lag, segment.rows.from_tile});
    const Layout& layout = *segment.layout;
    key.insert(key.end(), {static_cast<int64_t>(layout.key.map), layout.key.rotate, layout.rebuilds,
                           layout.halo, !segment.query_positions.empty()});
    for (const Operand& operand : layout.values)
      key.insert(key.end(), {static_cast<int64_t>(operand.map), operand.rotate});
    for (const StreamLayout& stream : page.streams)
      key.insert(key.end(), {reinterpret_cast<intptr_t>(stream.codec), stream.units, stream.width});
    for (const ListView& list : segment.rows.lists)
      key.insert(key.end(), {list.first, list.last, list.settled, list.grace});
  }
  for (const cache::CachedPlan& made : plans)
    if (made.engine == &on && made.key == key) return made.plan;
  plans.push_back({key, &on, on.plan(shape.layers[at(layer)], rows, of, where.split)});
  return plans.back().plan;
}

// ---- the engine's call ----

void cache::Impl::run_attention(const Attend& given, std::vector<Segment>& segs,
                                const std::optional<MassRequest>& request,
                                std::vector<float>* mass) {
  const cache::LayerPlan& plan = layers.plans[at(given.layer)];
  const cache::LayerPlan& source = layers.plans[at(plan.source)];
  const Layer& site = shape.layers[at(given.layer)];
  std::vector<int32_t> shifted;  // the sinks' segment sees queries as if they stood at the window
  if (source.reindexes) {
    for (const int32_t q : given.rows.positions)
      shifted.push_back(
          static_cast<int32_t>(std::min<int64_t>(q, source.sinks + source.window - 1)));
    for (Segment& segment : segs)
      if (segment.rows.page == &page(source.main, Part::first)) segment.query_positions = shifted;
  }
  Engine& on = engine_on(given.on);
  const std::shared_ptr<const Plan> made = plan_for(on, given.layer, given.rows, segs);
  AttendCall call{.shape = &site,
                  .layer = given.layer,
                  .rows = given.rows,
                  .queries = given.queries,
                  .rotated = given.rotated,
                  .sinks = given.sinks,
                  .distance_bias = given.distance_bias,
                  .segments = segs,
                  .plan = made.get(),
                  .split = where.split,
                  .level = where.level,
                  .out = given.out,
                  .lse_ln = given.lse_ln};
  if (request) {
    const int64_t heads = site.num_heads / group(source.main).lists;
    int64_t slots = 0;
    for (const Segment& segment : segs)
      for (const ListView& list : segment.rows.lists) slots += list.last - list.first;
    mass->assign(at(std::max<int64_t>(slots * heads, 1)), 0.0F);
    call.mass = dense_view(mass->data(), Dtype::f32, {slots, heads}, on.device());
    call.mass_request = request;
    mass->resize(at(slots * heads));
    if (!call.out) {  // an extra pass: the engine needs the sums of the logits first
      scratch_out.resize(
          at(std::max<int64_t>(given.rows.size() * site.num_heads * site.value_dim, 1)));
      call.out = dense_view(scratch_out.data(), Dtype::f32,
                            {given.rows.size(), site.num_heads, site.value_dim}, on.device());
    }
    if (!call.lse_ln) {
      scratch_lse.resize(at(std::max<int64_t>(given.rows.size() * site.num_heads, 1)));
      call.lse_ln = dense_view(scratch_lse.data(), Dtype::f32, {given.rows.size(), site.num_heads},
                               on.device());
    }
  }
  on.attend(call, &last_ran[at(given.layer)]);
  ran_on[at(given.layer)] = &on;
}

void cache::Impl::attend(const Attend& given) {
  check_attend(given);
  const cache::Work work(chunk);
  settle_below(given.layer);
  const cache::LayerPlan& plan = layers.plans[at(given.layer)];
  const cache::LayerPlan& source = layers.plans[at(plan.source)];
  std::vector<Sequence*> of;
  for (const SeqId id : given.rows.sequences) of.push_back(&in_chunk(id, "attend"));
  const bool is_plain = chunk.replaces() || source.selections.empty();
  const bool crosses = shape.layers[at(given.layer)].kind == Layer::Kind::cross;
  std::vector<Segment> segs =
      segments(given.layer, of, chunk.replaces() || crosses ? Sight::settled : Sight::pass);
  NarrowedSlots narrowed;
  if (!is_plain) narrow(given, of, segs, narrowed);
  // The first selector that wants mass gets it from the same call, others from calls of their own.
  Attend first = given;
  std::vector<float> mass;
  int served = -1;
  for (int s = 0; !is_plain && served < 0 && s < static_cast<int>(source.selections.size()); ++s)
    if (source.selections[at(s)].mass.wanted) served = s;
  if (served >= 0 && !first.lse_ln) {
    observed_lse.resize(at(given.rows.size() * shape.layers[at(given.layer)].num_heads));
    first.lse_ln = dense_view(observed_lse.data(), Dtype::f32,
                              {given.rows.size(), shape.layers[at(given.layer)].num_heads},
                              engine_on(given.on).device());
  }
  run_attention(first, segs, served < 0 ? std::nullopt : std::optional(mass_request(given, served)),
                &mass);
  for (int s = 0; !is_plain && s < static_cast<int>(source.selections.size()); ++s) {
    LiveView view(*this, plan.source, s, of, Sight::pass);
    Observed seen{.queries = given.rows, .lse_ln = first.lse_ln, .out = given.out};
    if (source.selections[at(s)].mass.wanted) {
      if (s != served) {
        Attend again = first;
        again.out = {};
        run_attention(again, segs, mass_request(given, s), &mass);
      }
      engine_on(given.on).sync();
      seen.mass = view.gather_mass(of, segs, mass);
    }
    composition.selects[at(s)]->observe(view, seen);
    view.keep_writes();
  }
  note_scratch();
}

MassRequest cache::Impl::mass_request(const Attend& given, int selector) const {
  const int source = layers.plans[at(given.layer)].source;
  const MassRequest request = layers.plans[at(source)].selections[at(selector)].mass;
  if (request.last_queries == 0) return request;
  for (int64_t i = 0; i < std::ssize(given.rows.sequences); ++i) {
    const Range mine = given.rows.rows_of(i);
    const Sequence& one = *sequences.at(static_cast<int64_t>(given.rows.sequences[at(i)]));
    KVLAB_REQUIRE(mine.size() > 0 && given.rows.positions[at(mine.last - 1)] == span(one).last - 1,
                  "E_UNSUPPORTED", "cache: attend on layer ", given.layer,
                  ": a selector wants the mass of the last ", request.last_queries,
                  " queries of the pass, so they must be asked in one call per sequence");
  }
  return request;
}

// ---- reading fewer rows ----

void cache::Impl::narrow(const Attend& given, std::span<Sequence* const> of,
                         std::vector<Segment>& segs, NarrowedSlots& out) {
  const int source = layers.plans[at(given.layer)].source;
  const cache::LayerPlan& plan = layers.plans[at(source)];
  const int lists = group(plan.main).lists;
  std::vector<std::vector<int32_t>> wanted;  // positions, per list of the call
  for (int s = 0; s < static_cast<int>(plan.selections.size()); ++s) {
    LiveView view(*this, source, s, of, Sight::pass);
    const Ragged rows = composition.selects[at(s)]->narrow(view, given);
    if (rows.indptr.empty()) continue;
    const Ragged positions = view.positions();
    KVLAB_REQUIRE(rows.indptr.size() == positions.indptr.size() &&
                      rows.values.dtype == Dtype::i64 && rows.indptr.front() == 0 &&
                      rows.indptr.back() <= rows.values.numel(),
                  "E_SHAPE", "selector ", s, ": narrow wants int64 row numbers for ",
                  positions.indptr.size() - 1, " lists");
    std::vector<std::vector<int32_t>> mine(of.size() * at(lists));
    for (int64_t list = 0; list + 1 < std::ssize(rows.indptr); ++list) {
      std::vector<int32_t> chosen;
      const int64_t count = positions.indptr[at(list + 1)] - positions.indptr[at(list)];
      int64_t before = -1;
      for (int64_t i = rows.indptr[at(list)]; i < rows.indptr[at(list + 1)]; ++i) {
        const int64_t row = rows.values.as<int64_t>()[i];
        KVLAB_REQUIRE(row > before && row < count, "E_POSITION", "selector ", s,
                      ": narrow chose row ", row, " of ", count, " after ", before);
        before = row;
        chosen.push_back(positions.values.as<int32_t>()[positions.indptr[at(list)] + row]);
      }
      const int per = view.lists_per_sequence();
      for (int l = 0; l < lists; ++l)
        if (per == lists ? l == list % per : true) mine[at(list / per * lists + l)] = chosen;
    }
    if (wanted.empty()) {
      wanted = std::move(mine);
      continue;
    }
    for (size_t list = 0; list < wanted.size(); ++list) {
      std::vector<int32_t> both;
      std::ranges::set_intersection(wanted[list], mine[list], std::back_inserter(both));
      wanted[list] = std::move(both);
    }
  }
  if (wanted.empty()) return;
  for (Segment& segment : segs) {
    auto& indptr = out.indptr.emplace_back(1, 0);
    auto& slots = out.slots.emplace_back();
    for (size_t list = 0; list < wanted.size(); ++list) {
      cache::RowColumns columns(*segment.rows.page, segment.rows.lists[list],
                                segment.rows.position_offset);
      for (const int32_t p : wanted[list]) {
        const int64_t slot = columns.lower_bound(p);
        if (slot < segment.rows.lists[list].last && columns.position(slot) == p)
          slots.push_back(slot);
      }
      indptr.push_back(std::ssize(slots));
    }
  }
  for (size_t s = 0; s < segs.size(); ++s)
    segs[s].narrowed = Ragged{
        out.indptr[s], dense_view(out.slots[s].data(), Dtype::i64, {std::ssize(out.slots[s])})};
}

}  // namespace kvlab
