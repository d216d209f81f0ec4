#include "core/cache/layers.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/row_dtype.h"

namespace kvlab::cache {
namespace {

std::string page_name(int owner, const std::string& name) {
  return owner == kLayout ? name : "select" + std::to_string(owner) + "/" + name;
}

/// How a stream is stored as it came, and once it is old enough.
struct Forms {
  StreamLayout fresh, aged;
};

class Planner {
 public:
  Planner(const ModelShape& shape, const Composition& composition, const Registry& registry,
          const LayerOptions& options)
      : shape_(shape), composition_(composition), registry_(registry), options_(options) {}

  Layers run() {
    out_.run_dtype = options_.run_dtype;
    out_.plans.resize(shape_.layers.size());
    for (int layer = 0; layer < num_layers(); ++layer) plan_layout(layer);
    for (int layer = 0; layer < num_layers(); ++layer) plan_reader(layer);
    for (int layer = 0; layer < num_layers(); ++layer) plan_rows(layer);
    for (const StateSpec& spec : shape_.states) add_state(kLayout, -1, spec);
    for (int layer = 0; layer < num_layers(); ++layer) {
      const auto& selections = out_.plans[at(layer)].selections;
      for (int s = 0; s < static_cast<int>(selections.size()); ++s)
        for (const StateSpec& spec : selections[at(s)].states) add_state(s, layer, spec);
    }
    return std::move(out_);
  }

 private:
  static size_t at(int i) { return static_cast<size_t>(i); }
  int num_layers() const { return static_cast<int>(shape_.layers.size()); }

  void add_state(int owner, int layer, const StateSpec& spec) {
    int64_t bytes = size_of(spec.dtype);
    for (const int64_t size : spec.sizes) bytes *= size;
    out_.states.push_back({owner, layer, spec, bytes});
    out_.state_bytes += bytes;
  }

  // ---- layouts and who reads whom ----

  void plan_layout(int layer) {
    LayerPlan& plan = out_.plans[at(layer)];
    const Layer& site = shape_.layers[at(layer)];
    if (composition_.project) plan.layout = composition_.project->layout(layer);
    const bool is_empty = plan.layout.streams.empty() && plan.layout.rows_of < 0;
    plan.is_dense = is_empty && site.kind != Layer::Kind::tap;
    if (plan.is_dense) plan.layout = dense_layout(site, composition_.capabilities.unrotated_keys);
    plan.last_reader = layer;
    const auto same = [&](const Layer& other) {
      Layer one = site, two = other;
      one.block = two.block = 0;
      return one == two;
    };
    plan.shape_class =
        static_cast<int>(std::ranges::find_if(shape_.layers, same) - shape_.layers.begin());
  }

  void plan_reader(int layer) {
    LayerPlan& plan = out_.plans[at(layer)];
    const Layout& layout = plan.layout;
    const Layer& site = shape_.layers[at(layer)];
    if (layout.rows_of < 0) {
      plan.stores = !layout.streams.empty();
      plan.source = plan.stores && site.kind != Layer::Kind::tap ? layer : -1;
    } else {
      KVLAB_REQUIRE(layout.streams.empty() && layout.columns.empty(), "E_COMPOSE", "layer ", layer,
                    " reads the rows of layer ", layout.rows_of, " and cannot store its own");
      KVLAB_REQUIRE(layout.rows_of < layer && site.kind != Layer::Kind::tap, "E_COMPOSE", "layer ",
                    layer, " cannot read the rows of layer ", layout.rows_of,
                    ": only self and cross layers read, and of layers below them");
      LayerPlan& source = out_.plans[at(layout.rows_of)];
      const bool crosses = site.kind == Layer::Kind::cross;
      KVLAB_REQUIRE(source.layout.rows_of < 0 && !source.layout.streams.empty() &&
                        crosses == (shape_.layers[at(layout.rows_of)].kind == Layer::Kind::cross),
                    "E_COMPOSE", "layer ", layer, " cannot read the rows of layer ", layout.rows_of,
                    ": that layer stores none of its own, or of other tokens");
      plan.source = layout.rows_of;
      source.last_reader = std::max(source.last_reader, layer);
    }
    if (plan.source >= 0) check_operands(layer);
  }

  void check_operands(int layer) const {
    const LayerPlan& plan = out_.plans[at(layer)];
    const Layout& stored = out_.plans[at(plan.source)].layout;
    const Layer& site = shape_.layers[at(layer)];
    if (plan.layout.rebuilds) return;
    const auto check = [&](const Operand& operand, int dim) {
      const auto stream = std::ranges::find(stored.streams, operand.stream, &StreamSpec::name);
      KVLAB_REQUIRE(stream != stored.streams.end(), "E_COMPOSE", "layer ", layer,
                    " reads a stream `", operand.stream, "` that layer ", plan.source,
                    " does not store");
      const int wanted = operand.map == Operand::Map::own     ? dim
                         : operand.map == Operand::Map::slice ? dim * site.num_kv_heads
                                                              : stream->width;
      const bool is_wide =
          operand.map == Operand::Map::slice ? stream->width >= wanted : stream->width == wanted;
      KVLAB_REQUIRE(stream->attended && is_wide && stream->units > 0 &&
                        site.num_kv_heads % stream->units == 0,
                    "E_COMPOSE", "layer ", layer, ": stream `", operand.stream, "` of ",
                    stream->units, " units of width ", stream->width,
                    " cannot be read as asked by ", site.num_kv_heads, " kv heads of ", dim);
      KVLAB_REQUIRE(operand.row_scale.empty() ||
                        std::ranges::find(stored.columns, operand.row_scale, &Column::name) !=
                            stored.columns.end(),
                    "E_COMPOSE", "layer ", layer, ": there is no column `", operand.row_scale,
                    "` to scale rows by");
    };
    check(plan.layout.key, site.head_dim);
    for (const Operand& operand : plan.layout.values) check(operand, site.value_dim);
  }

  // ---- what a layer stores ----

  void plan_rows(int layer) {
    LayerPlan& plan = out_.plans[at(layer)];
    if (!plan.stores) return;
    for (const StreamSpec& spec : plan.layout.streams) add_stream(plan, kLayout, spec);
    for (const Column& column : plan.layout.columns) add_column(plan, kLayout, column);
    if (shape_.layers[at(layer)].kind == Layer::Kind::self ||
        shape_.layers[at(layer)].kind == Layer::Kind::tap)
      plan_selections(layer, plan);
    std::vector<int> main, all;
    for (int s = 0; s < static_cast<int>(plan.streams.size()); ++s)
      (plan.streams[at(s)].spec.follows_list ? main : all).push_back(s);
    if (!main.empty()) plan.main = add_group(layer, main, true);
    if (!all.empty()) plan.all = add_group(layer, all, false);
    KVLAB_REQUIRE(plan.columns.empty() || plan.main >= 0, "E_COMPOSE", "layer ", layer,
                  " has columns but no rows that selectors act on");
    check_reindexing(layer, plan);
    if (plan.main < 0) return;
    const Group& group = out_.groups[at(plan.main)];
    for (int reader = layer; reader <= plan.last_reader; ++reader) {
      const LayerPlan& other = out_.plans[at(reader)];
      const bool one_form = (group.direct || !group.lossy) && !group.drops;
      KVLAB_REQUIRE(other.source != layer || other.layout.halo == 0 || one_form, "E_COMPOSE",
                    "layer ", reader, " rebuilds rows from their predecessors (halo ",
                    other.layout.halo, "): layer ", layer,
                    " must store each row in one form, at append, and drop none");
    }
  }

  void add_stream(LayerPlan& plan, int owner, const StreamSpec& spec) {
    KVLAB_REQUIRE(spec.units > 0 && spec.width > 0, "E_COMPOSE", "stream `", spec.name, "` of ",
                  spec.units, " units of width ", spec.width, " holds nothing");
    KVLAB_REQUIRE(spec.follows_list || !spec.attended, "E_COMPOSE", "stream `", spec.name,
                  "` keeps every token and so cannot be attended");
    const Dtype dtype = spec.dtype.value_or(options_.run_dtype);
    KVLAB_REQUIRE(!spec.dtype || is_row_dtype(dtype), "E_COMPOSE", "stream `", spec.name, "` has ",
                  name_of(dtype), " rows; they must be ", kRowDtypes);
    Stream stream{
        .owner = owner, .spec = spec, .dtype = dtype, .page_name = page_name(owner, spec.name)};
    KVLAB_REQUIRE(
        std::ranges::find(plan.streams, stream.page_name, &Stream::page_name) == plan.streams.end(),
        "E_COMPOSE", "two streams of a layer are called `", stream.page_name, "`");
    plan.streams.push_back(std::move(stream));
  }

  void add_column(LayerPlan& plan, int owner, const Column& column) {
    ColumnOf added{owner, column, page_name(owner, column.name)};
    KVLAB_REQUIRE(added.page_name != kPositionColumn && added.page_name != kUntilColumn &&
                      std::ranges::find(plan.columns, added.page_name, &ColumnOf::page_name) ==
                          plan.columns.end(),
                  "E_COMPOSE", "a column of a layer cannot be called `", added.page_name,
                  "`: the name is taken");
    plan.columns.push_back(std::move(added));
  }

  void plan_selections(int layer, LayerPlan& plan) {
    for (int s = 0; s < static_cast<int>(composition_.selects.size()); ++s) {
      Selection selection = composition_.selects[at(s)]->selection(layer);
      KVLAB_REQUIRE(selection.granularity == Scope::head || selection.granularity == Scope::layer,
                    "E_COMPOSE", "selector ", s, " on layer ", layer,
                    ": lists exist per kv head or per layer, no other granularity");
      KVLAB_REQUIRE(selection.recent >= (selection.flags ? 1 : 0) && selection.sinks >= 0,
                    "E_CONFIG", "selector ", s, " on layer ", layer, ": recent ", selection.recent,
                    " and sinks ", selection.sinks, "; neither may be negative, and recent counts ",
                    "the query's own row, so it is at least 1 where rows are flagged");
      for (StreamSpec spec : selection.streams) {
        spec.attended = false;
        add_stream(plan, s, spec);
      }
      for (const Column& column : selection.columns) add_column(plan, s, column);
      if (selection.reindexes) {
        plan.reindexes = true;
        plan.sinks = selection.sinks;
        plan.window = selection.recent;
      }
      plan.wants_writes |= selection.drops || !selection.columns.empty();
      plan.selections.push_back(std::move(selection));
    }
  }

  void check_reindexing(int layer, const LayerPlan& plan) const {
    if (!plan.reindexes) return;
    const bool turns = static_cast<bool>(shape_.layers[at(layer)].rope);
    KVLAB_REQUIRE((plan.layout.key.rotate || !turns) && !plan.layout.rebuilds, "E_COMPOSE",
                  "layer ", layer,
                  ": positions can be renumbered only where keys are rotated when they are read; "
                  "ask for unrotated keys");
    KVLAB_REQUIRE(plan.main >= 0 && out_.groups[at(plan.main)].first == plan.sinks, "E_COMPOSE",
                  "layer ", layer, ": rows below ", out_.groups[at(plan.main)].first,
                  " stay as they came, but renumbering wants exactly the ", plan.sinks,
                  " sinks there; lower `first` of the encoding");
  }

  // ---- groups ----

  StreamLayout coded(const Stream& stream, const std::string& codec, const std::string& params,
                     bool rotate_hadamard) const {
    StreamLayout layout{.name = stream.page_name, .width = stream.spec.width};
    layout.codec = &registry_.codec(codec);
    layout.params = registry_.codec_schema(codec).complete(
        params.empty() ? Json::object() : parse_json(params, "parameters of codec " + codec),
        codec);
    layout.rotate_hadamard = rotate_hadamard;
    layout.format = layout.codec->layout(layout.width, layout.params);
    return layout;
  }
  StreamLayout as_it_came(const Stream& stream) const {
    return coded(stream, std::string(name_of(stream.dtype)), "", false);
  }

  Forms forms_of(int layer, const Stream& stream) const {
    const auto& encode = composition_.encode;
    Forms forms{as_it_came(stream), as_it_came(stream)};
    const bool encodes = encode && stream.spec.attended && stream.owner == kLayout;
    Encoding encoding;
    if (stream.spec.encoding)
      encoding = *stream.spec.encoding;
    else if (encodes && encode->stream)
      encoding = encode->stream(layer, stream.spec);
    if (!encoding.codec.empty())
      forms.aged = coded(stream, encoding.codec, encoding.params, encoding.rotate_hadamard);
    if (encodes && !encode->recent_codec.empty()) {
      forms.fresh = coded(stream, encode->recent_codec, "", false);
      KVLAB_REQUIRE(forms.fresh.format.tile_tokens == 1 && forms.fresh.format.row_wise, "E_COMPOSE",
                    "recent_codec `", encode->recent_codec,
                    "` encodes rows together; recent rows need a row-wise codec");
    }
    return forms;
  }

  /// Lists per sequence: as fine as some selector wants and every stream's units allow.
  int count_lists(int layer, const LayerPlan& plan, const std::vector<int>& streams) const {
    const int heads = shape_.layers[at(layer)].num_kv_heads;
    int lists = 1;
    for (const Selection& selection : plan.selections)
      if (selection.granularity == Scope::head) lists = heads;
    if (lists == 1) return 1;
    for (const int s : streams) lists = std::gcd(lists, plan.streams[at(s)].spec.units);
    for (int s = 0; s < static_cast<int>(plan.selections.size()); ++s)
      KVLAB_REQUIRE(lists == heads || plan.selections[at(s)].granularity != Scope::head ||
                        plan.selections[at(s)].coarsens || !plan.selections[at(s)].drops,
                    "E_COMPOSE", "selector ", s, " drops rows per kv head, but on layer ", layer,
                    " ", heads / lists,
                    " heads share each stored row; only a selector that "
                    "coarsens can drop those");
    return lists;
  }

  int add_group(int layer, const std::vector<int>& streams, bool is_main) {
    LayerPlan& plan = out_.plans[at(layer)];
    const int id = static_cast<int>(out_.groups.size());
    Group group{.layer = layer, .streams = streams};
    group.cross = shape_.layers[at(layer)].kind == Layer::Kind::cross;
    if (is_main) {
      group.lists = count_lists(layer, plan, streams);
      for (const Selection& selection : plan.selections) {
        if (!selection.drops) continue;
        group.shortest =
            group.drops ? std::min(group.shortest, selection.recent) : selection.recent;
        group.longest = std::max(group.longest, selection.recent);
        group.drops = true;
      }
    }
    std::vector<Forms> forms;
    for (const int s : streams) {
      Stream& stream = plan.streams[at(s)];
      stream.group = id;
      stream.index = static_cast<int>(forms.size());
      Forms form = forms_of(layer, stream);
      form.fresh.units = form.aged.units = stream.spec.units / group.lists;
      forms.push_back(std::move(form));
    }
    time_moves(group, plan, forms);
    out_.groups.push_back(group);
    out_.pages.push_back(lay_out(group, plan, forms, is_main));
    return id;
  }

  /// When rows move, and in how many forms they exist.
  void time_moves(Group& group, const LayerPlan& plan, const std::vector<Forms>& forms) const {
    bool is_encoded = false, fresh_exact = true, aged_exact = true;
    for (size_t i = 0; i < forms.size(); ++i) {
      const Encoded &fresh = forms[i].fresh.format, &aged = forms[i].aged.format;
      group.tile = std::max(group.tile, aged.tile_tokens);
      group.row_wise &= aged.row_wise && aged.tile_tokens == 1;
      const Stream& stream = plan.streams[at(group.streams[i])];
      if (!stream.spec.attended) continue;
      is_encoded |= forms[i].aged.codec->name != name_of(stream.dtype);
      fresh_exact &= fresh.is_exact_for(stream.dtype);
      aged_exact &= aged.is_exact_for(stream.dtype);
    }
    const auto& encode = composition_.encode;
    group.lossy = !fresh_exact || !aged_exact;
    if (!group.cross && !plan.layout.encode_at_append)
      group.lag = group.lossy ? (encode ? encode->recent : 0) : group.drops ? group.longest : 0;
    KVLAB_REQUIRE(!plan.layout.encode_at_append || group.tile == 1, "E_COMPOSE", "layer ",
                  group.layer, " computes features from stored bytes and must encode at append, ",
                  "but its codec waits for ", group.tile, " rows; take a row-wise codec");
    group.direct = group.lag == 0 && group.tile == 1;
    if (is_encoded && encode) group.first = encode->first;
    if (plan.reindexes && group.drops) group.first = std::max(group.first, plan.sinks);
    group.mixed = group.drops && (group.tile > 1 || group.shortest < group.lag);
    group.exact_entry =
        (group.direct ? aged_exact : fresh_exact) && (group.first == 0 || fresh_exact);
  }

  GroupPages lay_out(const Group& group, LayerPlan& plan, const std::vector<Forms>& forms,
                     bool is_main) const {
    const auto pages = [&](bool aged, bool positions, bool until) {
      std::vector<StreamLayout> streams;
      for (const Forms& form : forms) streams.push_back(aged ? form.aged : form.fresh);
      std::vector<Column> columns;
      if (positions) columns.push_back({std::string(kPositionColumn), Dtype::i32});
      if (until) columns.push_back({std::string(kUntilColumn), Dtype::i32});
      if (is_main)
        for (const ColumnOf& column : plan.columns)
          columns.push_back({column.page_name, column.column.dtype});
      return make_page_layout(std::move(streams), columns, page_tokens(group));
    };
    GroupPages out{.layer = group.layer, .lists = group.lists};
    if (group.first > 0) out.part[index_of(Part::first)] = pages(false, false, group.drops);
    out.part[index_of(Part::past)] = pages(true, group.drops, group.drops);
    if (!group.direct) out.part[index_of(Part::recent)] = pages(false, group.drops, true);
    if (!group.exact_entry) out.part[index_of(Part::chunk)] = chunk_pages(group, plan);
    const bool one_list = group.lists == 1 && !group.drops;
    out.contiguous = options_.addressing == LayerOptions::Addressing::contiguous ||
                     (options_.addressing == LayerOptions::Addressing::automatic && one_list);
    return out;
  }

  /// The pass's own rows as given: what attention reads, and what it scales by.
  PageLayout chunk_pages(const Group& group, LayerPlan& plan) const {
    std::vector<StreamLayout> streams;
    std::vector<Column> columns;
    for (const int s : group.streams) {
      Stream& stream = plan.streams[at(s)];
      if (!stream.spec.attended) continue;
      stream.chunk_index = static_cast<int>(streams.size());
      streams.push_back(as_it_came(stream));
      streams.back().units = stream.spec.units / group.lists;
    }
    for (const ColumnOf& column : plan.columns)
      if (column.owner == kLayout) columns.push_back({column.page_name, column.column.dtype});
    return make_page_layout(std::move(streams), columns, page_tokens(group));
  }
  /// All parts of a group have pages of as many tokens.
  int page_tokens(const Group& group) const { return std::max(options_.page_tokens, group.tile); }

  const ModelShape& shape_;
  const Composition& composition_;
  const Registry& registry_;
  const LayerOptions& options_;
  Layers out_;
};

}  // namespace

int Layers::find_stream(int layer, int owner, std::string_view name) const {
  const auto& streams = plans[static_cast<size_t>(layer)].streams;
  for (size_t i = 0; i < streams.size(); ++i)
    if (streams[i].owner == owner && streams[i].spec.name == name) return static_cast<int>(i);
  return -1;
}

int Layers::find_column(int layer, int owner, std::string_view name) const {
  const auto& columns = plans[static_cast<size_t>(layer)].columns;
  for (size_t i = 0; i < columns.size(); ++i)
    if (columns[i].owner == owner && columns[i].column.name == name) return static_cast<int>(i);
  return -1;
}

int Layers::find_state(int layer, int owner, std::string_view name) const {
  for (size_t i = 0; i < states.size(); ++i)
    if (states[i].owner == owner && states[i].layer == layer && states[i].spec.name == name)
      return static_cast<int>(i);
  return -1;
}

Layers plan_layers(const ModelShape& shape, const Composition& composition,
                   const Registry& registry, const LayerOptions& options) {
  return Planner(shape, composition, registry, options).run();
}

}  // namespace kvlab::cache
