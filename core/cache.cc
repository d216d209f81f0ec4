#include "core/cache.h"

#include "core/cache/appended_rows.h"
#include "core/cache/impl.h"
#include "core/cache/parcel.h"
#include "core/safetensors.h"

namespace kvlab {

namespace cache {

std::string label_of(const Composition& composition) {
  std::string label;
  for (const MethodSpec& method : composition.methods)
    label += (label.empty() ? "" : "+") + method.name;
  return label.empty() ? "the method" : label;
}

}  // namespace cache

namespace {

cache::Layers layers_of(const ModelShape& shape, const Composition& composition,
                        const Registry& registry, const Where& where) {
  using From = Where::Addressing;
  using To = cache::LayerOptions::Addressing;
  const To addressing = where.addressing == From::paged        ? To::paged
                        : where.addressing == From::contiguous ? To::contiguous
                                                               : To::automatic;
  return cache::plan_layers(
      shape, composition, registry,
      {.run_dtype = where.run_dtype, .page_tokens = where.page_tokens, .addressing = addressing});
}

Where checked(Where where) {
  KVLAB_REQUIRE(where.engine, "E_CONFIG", "cache: Where::engine is missing");
  KVLAB_REQUIRE(where.engine->device().kind == Device::Kind::cpu, "E_UNSUPPORTED",
                "cache: rows live in host memory; give it a cpu engine and another one as "
                "other_engine");
  KVLAB_REQUIRE(where.rollback >= 0, "E_CONFIG", "cache: rollback ", where.rollback,
                " is negative");
  KVLAB_REQUIRE(where.compact_share >= 0 && where.compact_share <= 1, "E_CONFIG",
                "cache: compact_share ", where.compact_share, " is outside 0..1");
  KVLAB_REQUIRE(where.max_tokens > 0, "E_CONFIG", "cache: max_tokens ", where.max_tokens,
                " holds nothing");
  return where;
}

}  // namespace

cache::Impl::Impl(const ModelShape& model, Composition made_of, const Registry& known, Where place)
    : shape(model),
      composition(std::move(made_of)),
      registry(&known),
      where(checked(std::move(place))),
      engine(where.engine),
      layers(layers_of(shape, composition, known, where)),
      store(layers.pages, {.max_bytes = where.max_bytes, .max_tokens = where.max_tokens}),
      versions(layers.plans.size(), 0),
      last_ran(layers.plans.size()),
      ran_on(layers.plans.size(), nullptr),
      rows(std::make_unique<cache::AppendedRows>(*this)) {
  has_cross = kvlab::has_cross(shape);
}

cache::Impl::~Impl() = default;

Json cache::Impl::identity() const {
  Json methods = Json::array(), artifacts = Json::array();
  for (const MethodSpec& method : composition.methods)
    methods.push_back({{"name", method.name}, {"params", method.params}});
  for (const auto& artifact : composition.artifacts) artifacts.push_back(artifact->header());
  return {{"model", shape.fingerprint},
          {"methods", std::move(methods)},
          {"artifacts", std::move(artifacts)},
          {"run_dtype", name_of(where.run_dtype)}};
}

const cache::LayerPlan& cache::Impl::plan_of(int layer, std::string_view call) const {
  KVLAB_REQUIRE(layer >= 0 && layer < static_cast<int>(layers.plans.size()), "E_LAYER",
                "cache: ", call, ": there is no layer ", layer, "; the model has ",
                layers.plans.size());
  return layers.plans[static_cast<size_t>(layer)];
}

Cache::Cache(const ModelShape& shape, Composition composition, const Registry& registry,
             Where where)
    : impl_(std::make_unique<cache::Impl>(shape, std::move(composition), registry,
                                          std::move(where))) {}

Cache::~Cache() { impl_->engine->sync(); }

SeqId Cache::add_sequence() { return impl_->add(); }
SeqId Cache::fork(SeqId sequence) { return impl_->fork(sequence); }
void Cache::drop(SeqId sequence) { impl_->drop(sequence); }
void Cache::truncate(SeqId sequence, int64_t positions) { impl_->truncate(sequence, positions); }
int64_t Cache::tokens_seen(SeqId sequence) const {
  return impl_->sequence(sequence, "tokens_seen").seen;
}

int64_t Cache::encoder_tokens_seen(SeqId sequence) const {
  return impl_->sequence(sequence, "encoder_tokens_seen").encoder_seen;
}

void Cache::begin_chunk(const Chunk& chunk) { impl_->begin(chunk); }
Needs Cache::needs(int layer, int64_t rows) const { return impl_->needs(layer, rows); }
void Cache::append(const Append& append) { impl_->append(append); }
void Cache::attend(const Attend& attend) {
  {
    const cache::Stopwatch attending(impl_->attending_seconds);
    impl_->attend(attend);
  }
  if (!impl_->saw) return;
  impl_->engine_on(attend.on).sync();
  impl_->saw(attend);
}
void Cache::end_chunk(ChunkEnd end) { impl_->end(end); }
void Cache::cancel_chunk() { impl_->cancel(); }
bool Cache::in_chunk() const { return impl_->chunk.is_open; }

TensorView Cache::state(SeqId sequence, std::string_view name) {
  impl_->require_open("state");
  const int s = impl_->layers.find_state(-1, cache::kLayout, name);
  std::vector<std::string> known;
  for (const StateSpec& spec : impl_->shape.states) known.push_back(spec.name);
  if (s < 0)
    fail("E_UNKNOWN", "cache: the model has no state `", name, "`", suggestion(name, known));
  return impl_->staged_state(impl_->in_chunk(sequence, "state"), s);
}

Bytes Cache::bytes(int layer) const {
  if (layer != -1) impl_->plan_of(layer, "bytes");
  return impl_->bytes(layer);
}

int64_t Cache::payload(SeqId sequence) const {
  const RowLists* const lists[] = {&impl_->sequence(sequence, "payload").lists};
  return impl_->store.count(lists, -1).payload;
}

Ran Cache::ran(int layer) const {
  impl_->plan_of(layer, "ran");
  const auto l = static_cast<size_t>(layer);
  KVLAB_REQUIRE(impl_->ran_on[l] != nullptr, "E_ORDER", "cache: layer ", layer,
                " has not attended yet");
  impl_->ran_on[l]->sync();
  return impl_->last_ran[l];
}

double Cache::storing_seconds() const { return impl_->storing_seconds; }
double Cache::attending_seconds() const { return impl_->attending_seconds; }
void Cache::watch(std::function<void(const Attend&)> saw) { impl_->saw = std::move(saw); }

std::vector<int64_t> Cache::live_rows(int layer, SeqId sequence) const {
  const cache::LayerPlan& plan = impl_->plan_of(layer, "live_rows");
  std::vector<int64_t> counts;
  if (plan.main < 0) return counts;
  for (int l = 0; l < impl_->group(plan.main).lists; ++l)
    counts.push_back(std::ssize(positions(layer, sequence, l)));
  return counts;
}

std::vector<int32_t> Cache::positions(int layer, SeqId sequence, int list) const {
  return impl_->living_positions(layer, sequence, list);
}

std::vector<std::span<const u8>> Cache::read_set(int layer, std::span<const SeqId> of) const {
  return impl_->read_set(layer, of);
}
void Cache::prefetch(int layer, std::span<const SeqId> of) { impl_->prefetch(layer, of); }
uint64_t Cache::version(int layer) const {
  impl_->plan_of(layer, "version");
  return impl_->versions[static_cast<size_t>(layer)];
}

Rows Cache::export_rows(SeqId sequence, Range positions) const {
  const cache::Sequence& one = impl_->sequence(sequence, "export_rows");
  impl_->require_closed(one, "export_rows");
  impl_->check_separable("export_rows");
  impl_->check_range(one, positions);
  return impl_->pack(one, positions);
}

void Cache::import_rows(SeqId sequence, const Rows& rows, int64_t at) {
  impl_->import(sequence, rows, at);
}

void Cache::save(SeqId sequence, const std::filesystem::path& path) const {
  const cache::Sequence& one = impl_->sequence(sequence, "save");
  impl_->require_closed(one, "save");
  const Rows rows = impl_->pack(one, std::nullopt);
  std::vector<Tensor> tensors;
  for (const auto& [name, view] : rows.tensors) tensors.push_back({.name = name, .view = view});
  write_safetensors(path, tensors, {{std::string(cache::kRowsKey), rows.manifest}});
}

SeqId Cache::load(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto manifest = file.header().metadata.find(std::string(cache::kRowsKey));
  KVLAB_REQUIRE(manifest != file.header().metadata.end(), "E_FORMAT", "cache: ", path.string(),
                " holds no rows of a cache (no `", cache::kRowsKey, "` in its metadata)");
  Rows rows{.manifest = manifest->second};
  for (const SafetensorsEntry& entry : file.header().entries) {
    KVLAB_REQUIRE(entry.shape.size() == 1, "E_FORMAT", "cache: ", path.string(), ": tensor `",
                  printable(entry.name), "` has ", entry.shape.size(),
                  " dimensions; rows of a cache lie in tensors of one");
    rows.tensors.emplace_back(entry.name, file.tensor(entry.name));
  }
  return impl_->unpack(rows);
}

void Cache::materialise(int layer, SeqId sequence, Range positions, TensorView keys_pre_rope,
                        TensorView values) const {
  impl_->materialise(layer, sequence, positions, keys_pre_rope, values);
}

Json Cache::identity() const { return impl_->identity(); }

const ModelShape& Cache::shape() const { return impl_->shape; }
const Composition& Cache::composition() const { return impl_->composition; }

}  // namespace kvlab
