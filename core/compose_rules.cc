#include "core/compose_rules.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "core/row_dtype.h"

namespace kvlab {
namespace {

constexpr std::string_view kModel = "the model";

/// A selector of the chain with what it wants of one layer.
struct Chosen {
  const ComposedPart* part;
  Selection selection;
};

/// One layer as the composition stores and reads it.
struct Site {
  int index = 0;
  const Layer* layer = nullptr;
  const ComposedPart* projector = nullptr;  // whose layout it is; none: the dense one
  Layout layout{};
  int kv_heads = 0;  // of the layer or of the widest one that reads its rows
  std::vector<Chosen> selections{};

  std::string_view owner() const { return projector == nullptr ? kModel : projector->name; }
  bool stores() const { return layout.rows_of < 0 && !layout.streams.empty(); }
};

template <class... Reason>
[[noreturn]] void refuse(std::string_view one, std::string_view other, const Reason&... reason) {
  fail("E_COMPOSE", one, " and ", other, ": ", reason...);
}

/// A stage that contradicts the shape or itself.
struct LayerComplaint {
  std::string_view who;
  int layer;
  template <class... Reason>
  [[noreturn]] void operator()(const Reason&... reason) const {
    fail("E_SHAPE", who, ": layer ", layer, ": ", reason...);
  }
};

// --- what there is

template <class Has>
const ComposedPart* only_one(const Parts& parts, std::string_view does, Has has) {
  const ComposedPart* found = nullptr;
  for (const ComposedPart& part : parts.all) {
    if (!has(part)) continue;
    if (found != nullptr)
      refuse(found->name, part.name, "both ", does, ", a composition can have one such method; ",
             "leave one of them out");
    found = &part;
  }
  return found;
}

const ComposedPart* projector_of(const Parts& parts) {
  return only_one(parts, "say which numbers are stored (Project)",
                  [](const ComposedPart& part) { return part.stages.project != nullptr; });
}

const ComposedPart* encoder_of(const Parts& parts) {
  return only_one(parts, "say in which bits rows are stored (Encode)",
                  [](const ComposedPart& part) { return part.stages.encode.has_value(); });
}

bool asks_for_unrotated(const Parts& parts) {
  return std::ranges::any_of(
      parts.all, [](const ComposedPart& part) { return part.capabilities.unrotated_keys; });
}

Site site_of(const Parts& parts, const ComposedPart* projector, int index) {
  Site site{.index = index, .layer = &parts.shape.layers[static_cast<size_t>(index)]};
  site.kv_heads = site.layer->num_kv_heads;
  if (projector != nullptr) {
    site.layout = projector->stages.project->layout(index);
    site.projector = projector;
  }
  const bool untouched = site.layout.streams.empty() && site.layout.rows_of < 0;
  if (untouched) {
    site.projector = nullptr;
    if (site.layer->kind != Layer::Kind::tap)
      site.layout = dense_layout(*site.layer, asks_for_unrotated(parts));
  }
  return site;
}

std::vector<Site> sites_of(const Parts& parts, const ComposedPart* projector) {
  std::vector<Site> sites;
  for (int i = 0; i < std::ssize(parts.shape.layers); ++i)
    sites.push_back(site_of(parts, projector, i));
  return sites;
}

void add_selections(const Parts& parts, std::vector<Site>& sites) {
  for (Site& site : sites) {
    if (!site.stores() || site.layer->kind == Layer::Kind::cross) continue;
    for (const ComposedPart& part : parts.all)
      if (part.stages.select != nullptr)
        site.selections.push_back({&part, part.stages.select->selection(site.index)});
  }
}

// --- a layout agrees with itself and its layer

const StreamSpec* stream_named(const Layout& layout, std::string_view name) {
  const auto found = std::ranges::find(layout.streams, name, &StreamSpec::name);
  return found == layout.streams.end() ? nullptr : &*found;
}

void check_dtype(const StreamSpec& stream, const LayerComplaint& complain) {
  if (stream.dtype && !is_row_dtype(*stream.dtype))
    complain("stream `", stream.name, "` has ", name_of(*stream.dtype), " rows, they must be ",
             kRowDtypes);
}

void check_streams(const Site& site, const LayerComplaint& complain) {
  for (const StreamSpec& stream : site.layout.streams) {
    if (stream.name.empty() || stream_named(site.layout, stream.name) != &stream)
      complain("streams need distinct names, `", stream.name, "` is none");
    if (stream.units < 1 || stream.width < 1)
      complain("stream `", stream.name, "` has ", stream.units, " units of ", stream.width,
               " features, both must be at least 1");
    check_dtype(stream, complain);
    if (!stream.attended) continue;
    if (!stream.follows_list)
      complain("stream `", stream.name, "` is attended, so it must follow the list");
    if (site.kv_heads % stream.units != 0)
      complain("stream `", stream.name, "` has ", stream.units, " units for ", site.kv_heads,
               " kv heads, which must be a multiple");
  }
}

/// The map of an operand that has one; width: features it takes.  Before weights are read there is
/// none.
void check_map(const Site& site, const Operand& operand, int dim, int width, std::string_view what,
               const LayerComplaint& complain) {
  const int heads = site.layer->num_kv_heads;
  const TensorView &up = operand.up, &bias = operand.bias;
  if (up && !(up.dtype == Dtype::f32 && up.dims == 3 && up.size(0) == heads && up.size(1) == dim &&
              up.size(2) == width))
    complain("the map of its ", what, " must be float32 [", heads, ", ", dim, ", ", width, "]");
  if (bias &&
      !(bias.dtype == Dtype::f32 && bias.dims == 2 && bias.size(0) == heads && bias.size(1) == dim))
    complain("the bias of its ", what, " must be float32 [", heads, ", ", dim, "]");
}

void check_operand(const Site& site, const Site& source, const Operand& operand, int dim,
                   std::string_view what, const LayerComplaint& complain) {
  const StreamSpec* stream = stream_named(source.layout, operand.stream);
  if (stream == nullptr || !stream->attended)
    complain("its ", what, " come from `", operand.stream, "`, which is no attended stream");
  if (operand.map == Operand::Map::own && stream->width != dim)
    complain("its ", what, " have ", dim, " features, stream `", stream->name, "` has ",
             stream->width);
  if (operand.map == Operand::Map::slice && stream->width < int64_t{site.layer->num_kv_heads} * dim)
    complain("its ", what, " are slices of stream `", stream->name, "`, which has ", stream->width,
             " features instead of ", site.layer->num_kv_heads, " x ", dim);
  if (operand.map != Operand::Map::own)
    check_map(site, operand, dim, operand.map == Operand::Map::slice ? dim : stream->width, what,
              complain);
  const auto& columns = source.layout.columns;
  if (!operand.row_scale.empty() &&
      std::ranges::find(columns, operand.row_scale, &Column::name) == columns.end())
    complain("its ", what, " are scaled by `", operand.row_scale, "`, which is no column");
}

/// The site whose rows this one reads, usually itself.
const Site& source_of(const std::vector<Site>& sites, const Site& site,
                      const LayerComplaint& complain) {
  const int rows_of = site.layout.rows_of;
  const Site& source = sites[static_cast<size_t>(rows_of < 0 ? site.index : rows_of)];
  if (rows_of >= 0 &&
      (!source.stores() || !site.layout.streams.empty() || !site.layout.columns.empty()))
    complain("reads the rows of layer ", rows_of,
             "; that must be a layer below which stores rows, and this one must store none");
  return source;
}

void check_layout(const std::vector<Site>& sites, const Site& site) {
  const LayerComplaint complain{site.owner(), site.index};
  check_streams(site, complain);
  if (site.layout.halo < 0 || (site.layout.halo > 0 && !site.layout.rebuilds))
    complain("a halo of ", site.layout.halo, " rows needs a layout that rebuilds");
  if (site.layout.rows_of >= site.index)
    complain("reads the rows of layer ", site.layout.rows_of, ", it must be one below");
  const Site& source = source_of(sites, site, complain);
  if (site.layer->kind == Layer::Kind::tap || site.layout.rebuilds) return;
  check_operand(site, source, site.layout.key, site.layer->head_dim, "keys", complain);
  if (site.layout.values.empty()) complain("it has no values");
  for (const Operand& value : site.layout.values)
    check_operand(site, source, value, site.layer->value_dim, "values", complain);
}

/// A row of a tap has the heads of those who read it.
void count_readers(std::vector<Site>& sites) {
  for (const Site& site : sites) {
    const int rows_of = site.layout.rows_of;
    if (rows_of < 0 || rows_of >= std::ssize(sites)) continue;
    Site& source = sites[static_cast<size_t>(rows_of)];
    source.kv_heads = std::max(source.kv_heads, site.layer->num_kv_heads);
  }
}

// --- selectors

void check_selection(const Chosen& chosen, const Site& site) {
  const Selection& s = chosen.selection;
  const LayerComplaint complain{chosen.part->name, site.index};
  if (s.sinks < 0 || s.recent < 0)
    complain("sinks is ", s.sinks, " and recent ", s.recent, ", both must be at least 0");
  if (s.flags && !s.drops) complain("it flags rows but drops none");
  if (s.flags && s.recent < 1)
    complain(
        "it flags rows, so its `recent`, which counts the query's own row, must be at least 1");
  if (s.reindexes && !s.flags) complain("it re-indexes, so it must flag the rows it drops");
  for (const StreamSpec& stream : s.streams) check_dtype(stream, complain);
  if (s.granularity != Scope::head && s.granularity != Scope::layer)
    refuse(chosen.part->name, kModel, "layer ", site.index,
           ": lists of kept rows exist per head or per layer; choose one of these granularities");
}

/// A row is dropped whole: who decides per head must agree to decide for all heads that share it.
void check_sharing(const Chosen& chosen, const Site& site) {
  const Selection& s = chosen.selection;
  if (!s.drops || s.granularity != Scope::head || s.coarsens) return;
  for (const StreamSpec& stream : site.layout.streams)
    if (stream.attended && stream.units < site.kv_heads)
      refuse(chosen.part->name, site.owner(), "layer ", site.index,
             ": the first drops rows per head, ", "but ", site.kv_heads / stream.units,
             " heads share each row of stream `", stream.name,
             "`; use a selector that decides per layer or one that coarsens");
}

/// Who it was that wanted keys before RoPE.
const ComposedPart& asker_of(const Parts& parts) {
  return *std::ranges::find_if(
      parts.all, [](const ComposedPart& part) { return part.capabilities.unrotated_keys; });
}

bool rotates_when_read(const Site& site) {
  return !site.layer->rope || site.layout.key.rotate || site.layout.rebuilds;
}

void check_reindexing(const Parts& parts, const Chosen& chosen, const Site& site,
                      const ComposedPart* encoder) {
  const std::string& who = chosen.part->name;
  if (!site.layer->alibi_slopes.empty())
    refuse(who, kModel, "layer ", site.index,
           ": positions are renumbered by rotating keys anew, ALiBi does not rotate; use true "
           "positions");
  if (!rotates_when_read(site))
    refuse(who, site.owner(), "layer ", site.index,
           ": the first renumbers positions and needs keys that are rotated when they are read, "
           "the second stores them rotated; use true positions");
  for (const ComposedPart& part : parts.all) {
    if (part.stages.select == nullptr || &part == chosen.part) continue;
    if (part.stages.select->selection(site.index).drops)
      refuse(who, part.name, "layer ", site.index,
             ": the first renumbers the rows it keeps, the second drops some of them; use true "
             "positions or leave one of them out");
  }
  if (encoder != nullptr && encoder->stages.encode->first > chosen.selection.sinks)
    refuse(who, encoder->name, "layer ", site.index, ": the first renumbers ",
           chosen.selection.sinks, " sinks, the second keeps ", encoder->stages.encode->first,
           " first rows as they came; they must not be more than the sinks");
}

// --- in which bits

struct Format {
  std::string_view owner;  // who chose it
  Encoded encoded{};
};

Encoded encoded_as(const Parts& parts, const Encoding& encoding, int width,
                   const LayerComplaint& who) {
  if (encoding.codec.empty()) return {};  // as they came: row by row
  const Codec& codec = parts.registry.codec(encoding.codec);
  const std::string where = std::string(who.who) + ": codec " + codec.name;
  const Json given = encoding.params.empty() ? Json::object() : parse_json(encoding.params, where);
  const Json params = parts.registry.codec_schema(codec.name).complete(given, where);
  KVLAB_REQUIRE(codec.layout, "E_UNSUPPORTED", where,
                ": it does not say how it lays out its bytes");
  return codec.layout(width, params);
}

Format format_of(const Parts& parts, const Site& site, const StreamSpec& stream,
                 const ComposedPart* encoder) {
  const bool encodes = stream.attended && encoder != nullptr && encoder->stages.encode->stream;
  if (stream.encoding.has_value() || !encodes)
    return {site.owner(), encoded_as(parts, stream.encoding.value_or(Encoding{}), stream.width,
                                     {site.owner(), site.index})};
  const Encoding encoding = encoder->stages.encode->stream(site.index, stream);
  return {encoder->name, encoded_as(parts, encoding, stream.width, {encoder->name, site.index})};
}

void check_encode(const ComposedPart* encoder) {
  if (encoder == nullptr) return;
  const Encode& encode = *encoder->stages.encode;
  KVLAB_REQUIRE(encode.first >= 0 && encode.recent >= 0, "E_CONFIG", encoder->name, ": first is ",
                encode.first, " and recent ", encode.recent, ", both must be at least 0");
}

/// Every codec exists, accepts its parameters and the width of the rows.
void check_formats(const Parts& parts, const Site& site, const ComposedPart* encoder) {
  for (const StreamSpec& stream : site.layout.streams) {
    format_of(parts, site, stream, encoder);
    if (encoder == nullptr || !stream.attended) continue;
    const std::string& codec = encoder->stages.encode->recent_codec;
    const Encoded recent =
        encoded_as(parts, {.codec = codec}, stream.width, {encoder->name, site.index});
    KVLAB_REQUIRE(recent.row_wise && recent.tile_tokens == 1, "E_CONFIG", encoder->name,
                  ": recent rows come one by one, codec `", codec, "` takes them in tiles of ",
                  recent.tile_tokens);
  }
  for (const Chosen& chosen : site.selections)
    for (const StreamSpec& stream : chosen.selection.streams)
      if (stream.encoding.has_value())
        encoded_as(parts, *stream.encoding, stream.width, {chosen.part->name, site.index});
}

/// Bits that nothing is stored in would be a promise without an effect.
void check_encoder_matters(const std::vector<Site>& sites, const ComposedPart* encoder) {
  if (encoder == nullptr) return;
  const Site* last = nullptr;
  for (const Site& site : sites)
    for (const StreamSpec& stream : site.layout.streams) {
      if (stream.attended && !stream.encoding.has_value()) return;
      last = &site;
    }
  refuse(last == nullptr ? kModel : last->owner(), encoder->name,
         "the first says itself in which bits each of its streams is stored, the second would "
         "change nothing; leave it out");
}

/// Rows that must be in their final form as soon as they are there, and why.
std::optional<std::string> wants_rows_at_append(const std::vector<Site>& sites, const Site& site) {
  if (site.layout.encode_at_append) return "computes later features from the bytes of earlier rows";
  for (const Site& reader : sites) {
    const bool reads = &reader == &site || reader.layout.rows_of == site.index;
    if (reads && reader.layout.halo > 0) return "rebuilds rows from their predecessors";
  }
  return std::nullopt;
}

void check_rows_at_append(const Parts& parts, const std::vector<Site>& sites, const Site& site,
                          const ComposedPart* encoder) {
  const std::optional<std::string> wants = wants_rows_at_append(sites, site);
  if (!wants.has_value()) return;
  if (encoder != nullptr &&
      (encoder->stages.encode->recent > 0 || encoder->stages.encode->first > 0))
    refuse(site.owner(), encoder->name, "layer ", site.index, ": the first ", *wants,
           ", the second keeps rows as they came for a while; set its first and recent rows to 0");
  for (const StreamSpec& stream : site.layout.streams) {
    const Format format = format_of(parts, site, stream, encoder);
    if (format.encoded.tile_tokens > 1)
      refuse(site.owner(), format.owner, "layer ", site.index, ": the first ", *wants,
             ", the second encodes stream `", stream.name, "` in tiles of ",
             format.encoded.tile_tokens, " tokens; use a codec that works row by row");
  }
  for (const Chosen& chosen : site.selections)
    if (chosen.selection.reindexes)
      refuse(site.owner(), chosen.part->name, "layer ", site.index, ": the first ", *wants,
             ", the second keeps its sinks as they came; use true positions");
}

/// A predecessor that was dropped cannot be a predecessor.
void check_halo(const std::vector<Site>& sites, const Site& site) {
  for (const Site& reader : sites) {
    const bool reads = &reader == &site || reader.layout.rows_of == site.index;
    if (!reads || reader.layout.halo == 0) continue;
    for (const Chosen& chosen : site.selections)
      if (chosen.selection.drops)
        refuse(reader.owner(), chosen.part->name, "layer ", site.index,
               ": the first rebuilds each row from the one before it, the second drops rows; leave "
               "one of them out");
  }
}

// --- promises that methods make each other

void check_rotation(const Parts& parts, const Site& site) {
  if (!asks_for_unrotated(parts) || site.projector == nullptr) return;
  if (site.projector->capabilities.unrotated_keys || rotates_when_read(site)) return;
  if (site.layer->kind == Layer::Kind::tap) return;
  refuse(asker_of(parts).name, site.owner(), "layer ", site.index,
         ": the first needs keys that are stored before RoPE, the second stores them rotated; set "
         "the first to rotated keys or leave one of them out");
}

void check_freed_weights(const Parts& parts) {
  struct Use {
    Needs need;
    std::string_view role;
  };
  constexpr Use kUses[] = {{Needs::keys_pre_rope, "key"},
                           {Needs::keys, "key"},
                           {Needs::values, "value"},
                           {Needs::queries, "query"}};
  for (const ComposedPart& owner : parts.all)
    for (const ComposedPart& user : parts.all)
      for (const Use& use : kUses) {
        const auto& frees = owner.capabilities.frees;
        if (&owner != &user && has(user.capabilities.needs, use.need) &&
            std::ranges::find(frees, use.role) != frees.end())
          refuse(owner.name, user.name, "the first replaces the ", use.role,
                 " projection, the second needs what it computes; leave one of them out");
      }
}

std::vector<Site> all_sites(const Parts& parts, const ComposedPart* projector) {
  std::vector<Site> sites = sites_of(parts, projector);
  count_readers(sites);
  add_selections(parts, sites);
  return sites;
}

}  // namespace

void check_rules(const Parts& parts) {
  const ComposedPart* projector = projector_of(parts);
  const ComposedPart* encoder = encoder_of(parts);
  check_freed_weights(parts);
  check_encode(encoder);
  const std::vector<Site> sites = all_sites(parts, projector);
  check_encoder_matters(sites, encoder);
  for (const Site& site : sites) {
    check_layout(sites, site);
    check_rotation(parts, site);
    check_formats(parts, site, encoder);
    for (const Chosen& chosen : site.selections) {
      check_selection(chosen, site);
      check_sharing(chosen, site);
      if (chosen.selection.reindexes) check_reindexing(parts, chosen, site, encoder);
    }
    check_rows_at_append(parts, sites, site, encoder);
    check_halo(sites, site);
  }
}

Needs needs_of_untouched_layers(const Parts& parts) {
  Needs needs = Needs::none;
  for (const Site& site : sites_of(parts, projector_of(parts)))
    if (site.projector == nullptr && site.stores())
      needs = needs | Needs::values |
              (site.layout.streams[0].pre_rope ? Needs::keys_pre_rope : Needs::keys);
  return needs;
}

std::vector<ReadRefusal> read_refusals(const Parts& parts) {
  std::vector<ReadRefusal> refusals;
  for (const ComposedPart& part : parts.all)
    for (const ReadPolicy policy : part.capabilities.refuses)
      refusals.push_back({policy, part.name, "the method refuses it"});
  for (const Site& site : all_sites(parts, projector_of(parts)))
    for (const Chosen& chosen : site.selections) {
      const bool known = std::ranges::any_of(refusals, [&](const ReadRefusal& refusal) {
        return refusal.policy == ReadPolicy::stored && refusal.method == chosen.part->name;
      });
      if (chosen.selection.flags && !known)
        refusals.push_back({ReadPolicy::stored, chosen.part->name,
                            "rows expire by age inside a pass, which only `masked` hides"});
    }

  std::string who;
  for (const ReadPolicy policy : {ReadPolicy::raw_chunk, ReadPolicy::stored, ReadPolicy::masked}) {
    const auto refusal = std::ranges::find(refusals, policy, &ReadRefusal::policy);
    if (refusal == refusals.end()) return refusals;
    who += (who.empty() ? "" : ", ") + refusal->method + " refuses `" +
           std::string(name_of(policy)) + "`";
  }
  fail("E_COMPOSE", "no read policy is left: ", who, "; leave one of them out");
}

}  // namespace kvlab
