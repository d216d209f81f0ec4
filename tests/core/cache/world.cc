#include "tests/core/cache/world.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "core/error.h"
#include "core/types.h"
#include "tests/support/refusal.h"

namespace kvlab::test {
namespace {

uint64_t hashed(std::initializer_list<int64_t> parts) {
  uint64_t h = 0x9e3779b97f4a7c15u;
  for (const int64_t part : parts) {
    h ^= static_cast<uint64_t>(part) + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    h ^= h >> 31;
  }
  return h;
}

class Gate final : public Select {
 public:
  Gate(const WorldConfig& config, int number) : config_(config), number_(number) {}
  Selection selection(int) const override {
    const SelectorConfig& mine = config_.selectors[at(number_)];
    return {
        .granularity = mine.granularity, .flags = true, .sinks = mine.sinks, .recent = mine.recent};
  }
  void admit(const Append& append, NewRows& rows) const override {
    const TensorView flags = rows.keep();
    for (int64_t row = 0; row < flags.size(0); ++row)
      for (int64_t h = 0; h < flags.size(1); ++h)
        flags.as<u8>()[row * flags.size(1) + h] = keeps(
            config_, append.layer, number_, static_cast<int>(h), append.rows.positions[at(row)]);
  }

 private:
  const WorldConfig& config_;
  int number_;
};

class Budget final : public Select {
 public:
  Budget(const WorldConfig& config, int number) : config_(config), number_(number) {}
  Selection selection(int) const override {
    const SelectorConfig& mine = config_.selectors[at(number_)];
    return {.granularity = mine.granularity, .sinks = mine.sinks, .recent = mine.recent};
  }
  bool due(ChunkEnd end) const override { return config_.selectors[at(number_)].due.contains(end); }
  void score(LiveRows& rows, Ragged& scores) const override {
    const Ragged positions = rows.positions();
    for (int64_t list = 0; list + 1 < std::ssize(positions.indptr); ++list)
      for (int64_t i = positions.indptr[at(list)]; i < positions.indptr[at(list + 1)]; ++i)
        scores.values.as<float>()[i] =
            score_of(config_, rows.layer(), static_cast<int>(list % rows.lists_per_sequence()),
                     positions.values.as<int32_t>()[i]);
  }
  void allocate(const ModelShape&, Budgets& budgets) const override {
    for (int64_t& rows : budgets.rows) rows = std::min(rows, config_.selectors[at(number_)].budget);
  }

 private:
  const WorldConfig& config_;
  int number_;
};

bool exact(const std::string& codec) {
  return codec.empty() || codec == "float32" || codec == "exact4";
}
int tile_of(const std::string& codec) {
  return codec == "column4" || codec == "exact4" ? 4 : codec == "mixed8" ? 8 : 1;
}
/// Bytes of one row of one unit, payload and metadata, as the texts in reference_engine.h say.
std::pair<double, double> row_bytes_of(const std::string& codec, double width) {
  if (codec == "coarse") return {width, 8};
  if (codec == "column4") return {width, 2 * width};
  if (codec == "mixed8") return {width, width};
  return {4 * width, 0};
}

}  // namespace

bool keeps(const WorldConfig& config, int layer, int s, int head, int64_t position) {
  return hashed({config.salt, layer, s, head, position, 1}) % 100 <
         config.selectors[at(s)].keep_percent;
}

float score_of(const WorldConfig& config, int layer, int list, int64_t position) {
  return static_cast<float>(hashed({config.salt, layer, list, position, 2}) % 8);  // ties
}

Layer small_layer(int heads, int kv_heads, int64_t window_left) {
  return {.num_heads = heads,
          .num_kv_heads = kv_heads,
          .head_dim = 3,
          .value_dim = 5,
          .scale = 0.7,
          .window_left = window_left};
}

std::string WorldConfig::text() const {
  std::ostringstream out;
  out << "layers";
  for (const Layer& layer : layers)
    out << " " << layer.num_heads << "/" << layer.num_kv_heads << "w" << layer.window_left;
  out << " key " << key_codec << " value " << value_codec << " recent_codec " << recent_codec
      << " first " << first << " recent " << recent;
  for (const SelectorConfig& s : selectors)
    out << " [" << (s.kind == SelectorConfig::Kind::gate ? "gate" : "budget")
        << (s.granularity == Scope::head ? " head" : " layer") << " sinks " << s.sinks << " recent "
        << s.recent << " keep " << s.keep_percent << " budget " << s.budget << "]";
  out << " pages " << where.page_tokens << " addressing " << static_cast<int>(where.addressing)
      << " rollback " << where.rollback << " compact " << where.compact_share << " max "
      << where.max_bytes << " salt " << salt;
  return out.str();
}

WorldConfig random_config(std::mt19937& random) {
  const auto below = [&](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<unsigned>(n));
  };
  const auto pick = [&](std::vector<std::string> of) { return of[at(below(std::ssize(of)))]; };
  WorldConfig config;
  config.salt = static_cast<unsigned>(random());
  const int kv_heads = below(2) == 0 ? 1 : 2;
  for (int64_t l = 0; l <= below(3); ++l)
    config.layers.push_back(small_layer(kv_heads * (1 + static_cast<int>(below(2))), kv_heads,
                                        below(4) == 0 ? below(10) : -1));
  switch (below(6)) {
    default:
      break;  // dense
    case 1:
    case 2:
      config.key_codec = config.value_codec = "coarse";
      break;
    case 3:
      config.key_codec = "column4", config.value_codec = pick({"coarse", "float32"});
      break;
    case 4:
      config.key_codec = "mixed8", config.value_codec = pick({"column4", "coarse"});
      break;
    case 5:
      config.key_codec = config.value_codec = "exact4";
      break;
  }
  if (!config.key_codec.empty()) {
    config.recent = below(3) == 0 ? 0 : below(9);
    config.first = below(3) == 0 ? below(6) : 0;
    if (below(4) == 0 && config.key_codec != "exact4") config.recent_codec = "coarse";
  }
  for (int64_t s = below(3); s > 0; --s)
    config.selectors.push_back(
        {.kind = below(2) == 0 ? SelectorConfig::Kind::gate : SelectorConfig::Kind::budget,
         .granularity = below(2) == 0 ? Scope::head : Scope::layer,
         .sinks = below(3) == 0 ? below(5) : 0,
         .recent = 1 + below(9),
         .keep_percent = static_cast<unsigned>(below(5) * 25),
         .budget = 2 + below(14)});
  for (SelectorConfig& s : config.selectors)
    if (s.kind == SelectorConfig::Kind::budget) s.recent -= below(2);
  config.where.page_tokens = 1 << below(5);
  config.where.addressing = static_cast<Where::Addressing>(below(3));
  config.where.rollback = below(3) == 0 ? below(7) : 0;
  config.where.compact_share = below(3) == 0 ? 0.0 : below(2) == 0 ? 0.25 : 1.0;
  config.where.max_tokens = 4096;
  if (below(5) == 0) config.where.max_bytes = (2 + below(40)) << 16;
  return config;
}

World::World(const WorldConfig& config, unsigned seed)
    : config_(config), engine_(std::make_shared<ReferenceEngine>()), random_(seed) {
  register_test_codecs(registry_);
  shape_.architecture = "test";
  shape_.fingerprint = "world";
  shape_.width = 4;
  shape_.layers = config_.layers;
  const bool lossy =
      !exact(config_.key_codec) || !exact(config_.value_codec) || !exact(config_.recent_codec);
  int64_t longest = 0;
  bool per_head = false;
  for (const SelectorConfig& s : config_.selectors) {
    longest = std::max(longest, s.recent);
    per_head |= s.granularity == Scope::head;
  }
  for (const Layer& layer : shape_.layers) {
    OracleRules& rules = rules_.emplace_back();
    rules.heads = layer.num_heads, rules.kv_heads = layer.num_kv_heads;
    rules.key_dim = layer.head_dim, rules.value_dim = layer.value_dim;
    rules.scale = layer.scale, rules.window_left = layer.window_left;
    rules.lists = per_head ? layer.num_kv_heads : 1;
    rules.key_tile = tile_of(config_.key_codec), rules.value_tile = tile_of(config_.value_codec);
    rules.tile = std::max(rules.key_tile, rules.value_tile);
    rules.first = config_.key_codec.empty() ? 0 : config_.first;
    rules.lossy = lossy;
    rules.lag = lossy ? config_.recent : longest;
    rules.recent_form = round_trip_of(config_.recent_codec);
    rules.key_form = round_trip_of(config_.key_codec);
    rules.value_form = round_trip_of(config_.value_codec);
    for (const SelectorConfig& s : config_.selectors)
      if (s.kind == SelectorConfig::Kind::gate)
        rules.flags.push_back({s.sinks, s.recent, s.granularity == Scope::head});
  }
  config_.where.engine = engine_;
  cache_ = std::make_unique<Cache>(shape_, composition(), registry_, config_.where);
}

Composition World::composition() const {
  Composition made;
  made.methods.push_back({.name = "world"});
  if (!config_.key_codec.empty())
    made.encode = Encode{.stream =
                             [this](int, const StreamSpec& stream) {
                               return Encoding{.codec = stream.name == "key" ? config_.key_codec
                                                                             : config_.value_codec};
                             },
                         .first = config_.first,
                         .recent = config_.recent,
                         .recent_codec = config_.recent_codec};
  for (int s = 0; s < static_cast<int>(config_.selectors.size()); ++s)
    if (config_.selectors[at(s)].kind == SelectorConfig::Kind::gate)
      made.selects.push_back(std::make_shared<Gate>(config_, s));
    else
      made.selects.push_back(std::make_shared<Budget>(config_, s));
  return made;
}

bool World::drops() const { return !config_.selectors.empty(); }

float World::number(int layer, int what, int64_t position, int64_t i) {
  const uint64_t bits =
      deterministic_rows ? hashed({layer, what, position, i}) : (uint64_t{random_()} << 20);
  return static_cast<float>(static_cast<double>(bits >> 11 & 0xffffff) / 0x800000 - 1.0) * 2;
}

/// The first row, where rows wait for their age, that is encoded at `encoded_from` or later.
int64_t World::oldest_exact(const Live& one, int64_t encoded_from) const {
  const std::vector<int64_t> when = one.layers[0].encoded_at(0, one.seen - 1);
  int64_t p = rules(0).first;
  while (p < one.seen && when[at(p)] < encoded_from) ++p;
  return p;
}

/// Whether there is memory for it; where there is none nothing may change.
bool World::fits(const std::function<void()>& act) {
  const kvlab::Bytes before = cache_->bytes();
  try {
    act();
    return true;
  } catch (const Error& error) {
    if (config_.where.max_bytes < 0 || error.code() != "E_FULL") throw;
    kvlab::Bytes after = cache_->bytes();
    after.scratch = before.scratch, after.scratch_peak = before.scratch_peak;
    EXPECT_EQ(after.cache_bytes(), before.cache_bytes()) << error.what();
    EXPECT_LE(after.committed, before.committed) << error.what();
    EXPECT_FALSE(cache_->in_chunk());
    return false;
  }
}

void World::add() {
  Live one;
  for (const OracleRules& rules : rules_) one.layers.emplace_back(rules);
  if (fits([&] { one.id = cache_->add_sequence(); })) live_.push_back(std::move(one));
}

void World::fork(size_t i) {
  Live copy = live_[i];
  if (!fits([&] { copy.id = cache_->fork(live_[i].id); })) return;
  live_[i].shares = copy.shares = true;
  live_.push_back(std::move(copy));
}

void World::drop(size_t i) {
  cache_->drop(live_[i].id);
  live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(i));
}

void World::reload(size_t i, const std::filesystem::path& file) {
  cache_->save(live_[i].id, file);
  SeqId id{};
  if (!fits([&] { id = cache_->load(file); })) return;
  cache_->drop(live_[i].id);
  live_[i].id = id;
  live_[i].shares = false;
}

void World::transplant(size_t i) {
  Live& one = live_[i];
  SeqId id{};
  if (!fits([&] { id = cache_->add_sequence(); })) return;
  if (one.seen > 0) {
    const Rows rows = cache_->export_rows(one.id, {0, one.seen});
    if (!fits([&] { cache_->import_rows(id, rows, 0); })) return cache_->drop(id);
  }
  cache_->drop(one.id);
  one.id = id;
  one.shares = false;
  one.arrived = one.seen;
  one.exact_from = oldest_exact(one, one.seen);
}

bool World::may_read_stored(const PassPlan& plan) const {
  for (size_t i = 0; i < plan.which.size(); ++i) {
    if (plan.lengths[i] <= 1) continue;
    const Live& one = live_[plan.which[i]];
    // A flag anywhere that may expire inside; flags are given by position alone.
    for (int s = 0; s < static_cast<int>(config_.selectors.size()); ++s)
      if (config_.selectors[at(s)].kind == SelectorConfig::Kind::gate) return false;
    static_cast<void>(one);
  }
  return true;
}

std::string World::PassPlan::text() const {
  std::ostringstream out;
  out << name_of(read)
      << (end == ChunkEnd::step     ? " step"
          : end == ChunkEnd::prompt ? " prompt"
                                    : "");
  for (size_t i = 0; i < which.size(); ++i) out << " " << which[i] << "+" << lengths[i];
  if (cancel_before >= 0) out << " cancelled before " << cancel_before;
  return out.str();
}

// ---- a pass ----

std::vector<float> World::pass(const PassPlan& plan) {
  std::vector<SeqId> ids;
  std::vector<int32_t> indptr{0}, positions;
  for (size_t i = 0; i < plan.which.size(); ++i) {
    const Live& one = live_[plan.which[i]];
    ids.push_back(one.id);
    for (int64_t p = one.seen; p < one.seen + plan.lengths[i]; ++p)
      positions.push_back(static_cast<int32_t>(p));
    indptr.push_back(static_cast<int32_t>(positions.size()));
  }
  const RowMap rows{ids, indptr, positions};
  if (!fits([&] { cache_->begin_chunk({.rows = rows, .read = plan.read}); })) return {};
  std::vector<Live> next;
  for (const size_t i : plan.which) next.push_back(live_[i]);
  std::vector<float> outputs;
  for (int layer = 0; layer < num_layers(); ++layer) {
    if (plan.cancel_before == layer) {
      cache_->cancel_chunk();
      return {};
    }
    const Layer& site = shape_.layers[at(layer)];
    const int64_t count = rows.size(), heads = site.num_heads, kv = site.num_kv_heads;
    std::vector<float> keys(at(count * kv * site.head_dim)),
        values(at(count * kv * site.value_dim)), queries(at(count * heads * site.head_dim)),
        out(at(count * heads * site.value_dim), -7.0F), lse(at(count * heads), -7.0F);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t p = positions[at(r)];
      for (int64_t i = 0; i < kv * site.head_dim; ++i)
        keys[at(r * kv * site.head_dim + i)] = number(layer, 0, p, i);
      for (int64_t i = 0; i < kv * site.value_dim; ++i)
        values[at(r * kv * site.value_dim + i)] = number(layer, 1, p, i);
      for (int64_t i = 0; i < heads * site.head_dim; ++i)
        queries[at(r * heads * site.head_dim + i)] = number(layer, 2, p, i);
    }
    for (size_t i = 0; i < next.size(); ++i)
      for (int64_t r = indptr[i]; r < indptr[i + 1]; ++r) {
        OracleRow row;
        for (int64_t h = 0; h < kv; ++h) {
          const float* const key = keys.data() + (r * kv + h) * site.head_dim;
          const float* const value = values.data() + (r * kv + h) * site.value_dim;
          row.keys.emplace_back(key, key + site.head_dim);
          row.values.emplace_back(value, value + site.value_dim);
        }
        for (int s = 0; s < static_cast<int>(config_.selectors.size()); ++s) {
          const SelectorConfig& selector = config_.selectors[at(s)];
          if (selector.kind != SelectorConfig::Kind::gate) continue;
          auto& flags = row.keep.emplace_back();
          for (int h = 0; h < (selector.granularity == Scope::head ? kv : 1); ++h)
            flags.push_back(keeps(config_, layer, s, h, positions[at(r)]));
        }
        next[i].layers[at(layer)].append(std::move(row));
      }
    cache_->append({.layer = layer,
                    .rows = rows,
                    .keys = dense_view(keys.data(), Dtype::f32, {count, kv, site.head_dim}),
                    .values = dense_view(values.data(), Dtype::f32, {count, kv, site.value_dim})});
    cache_->attend(
        {.layer = layer,
         .rows = rows,
         .queries = dense_view(queries.data(), Dtype::f32, {count, heads, site.head_dim}),
         .out = dense_view(out.data(), Dtype::f32, {count, heads, site.value_dim}),
         .lse_ln = dense_view(lse.data(), Dtype::f32, {count, heads})});
    for (size_t i = 0; i < next.size(); ++i)
      for (int64_t r = indptr[i]; r < indptr[i + 1]; ++r) {
        Matrix asked;
        for (int64_t h = 0; h < heads; ++h) {
          const float* const query = queries.data() + (r * heads + h) * site.head_dim;
          asked.emplace_back(query, query + site.head_dim);
        }
        const Policy policy = plan.read == ReadPolicy::raw_chunk ? Policy::raw_chunk
                              : plan.read == ReadPolicy::stored  ? Policy::stored
                                                                 : Policy::masked;
        const OracleLayer::Answer want =
            next[i].layers[at(layer)].attend(asked, positions[at(r)], positions[at(indptr[i])],
                                             int64_t{positions[at(indptr[i + 1] - 1)]} + 1, policy);
        for (int64_t h = 0; h < heads; ++h) {
          for (int c = 0; c < site.value_dim; ++c)
            EXPECT_NEAR(out[at((r * heads + h) * site.value_dim + c)], want.out[at(h)][at(c)], 1e-5)
                << "layer " << layer << " sequence " << i << " position " << positions[at(r)]
                << " head " << h;
          if (std::isinf(want.lse[at(h)]))
            EXPECT_EQ(lse[at(r * heads + h)], -std::numeric_limits<float>::infinity());
          else
            EXPECT_NEAR(lse[at(r * heads + h)], want.lse[at(h)], 1e-5);
          if (testing::Test::HasFailure()) return {};
        }
      }
    outputs.insert(outputs.end(), out.begin(), out.end());
  }
  if (plan.cancel_before == num_layers()) {
    cache_->cancel_chunk();
    return {};
  }
  cache_->end_chunk(plan.end);
  for (size_t i = 0; i < next.size(); ++i) {
    next[i].seen += plan.lengths[i];
    next[i].furthest = std::max(next[i].furthest, next[i].seen);
    // Exact rows are read up to the position before the one they are encoded at, and are kept as
    // much longer as a cut may reach back.
    const int64_t rollback = config_.where.rollback;
    const int64_t encoded_from = next[i].seen - rollback + (rollback > 0 ? 0 : 1);
    next[i].exact_from = std::max(next[i].exact_from, oldest_exact(next[i], encoded_from));
    rank(next[i], plan.end, next[i].seen - 1);
    live_[plan.which[i]] = std::move(next[i]);
  }
  return outputs;
}

/// Budgets, from the text: the lowest unprotected rows go, of equal ones the higher position.
void World::rank(Live& one, ChunkEnd end, int64_t newest) {
  for (const SelectorConfig& selector : config_.selectors) {
    if (selector.kind != SelectorConfig::Kind::budget || !selector.due.contains(end)) continue;
    for (int layer = 0; layer < num_layers(); ++layer) {
      OracleLayer& rows = one.layers[at(layer)];
      const int lists = rules(layer).lists;
      const int judged = selector.granularity == Scope::head ? lists : 1;
      for (int j = 0; j < judged; ++j) {
        std::set<int64_t> held;
        for (int list = 0; list < lists; ++list)
          if (judged == 1 || list == j)
            for (const int64_t p : rows.living(list, newest + 1)) held.insert(p);
        std::vector<std::pair<float, int64_t>> open;
        for (const int64_t p : held)
          if (p >= selector.sinks && p <= newest - selector.recent)
            open.emplace_back(score_of(config_, layer, j, p), -p);
        std::ranges::sort(open);
        const int64_t count =
            std::clamp<int64_t>(std::ssize(held) - selector.budget, 0, std::ssize(open));
        for (int64_t i = 0; i < count; ++i) {
          const int64_t p = -open[at(i)].second;
          for (int list = 0; list < lists; ++list)
            if ((judged == 1 || list == j) && std::ranges::count(rows.living(list, newest + 1), p))
              rows.drop(list, p, newest);
          one.last_drop = newest;
        }
      }
    }
  }
}

bool World::truncate(size_t i, int64_t n) {
  Live& one = live_[i];
  // With no row of rank gone since, and everything younger than rollback kept, it must work; so it
  // must where rows never change or leave.
  bool must = one.last_drop < n && n >= one.furthest - config_.where.rollback && n >= one.arrived;
  if (!drops() && (!rules(0).lossy || (rules(0).lag == 0 && rules(0).tile == 1)))
    must = must || rules(0).tile == 1;
  try {
    if (!fits([&] { cache_->truncate(one.id, n); })) return false;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E_TRUNCATE") << error.what();
    EXPECT_FALSE(must && n <= one.seen) << error.what();
    EXPECT_EQ(cache_->tokens_seen(one.id), one.seen);
    return false;
  }
  for (int layer = 0; layer < num_layers(); ++layer) {
    OracleLayer& rows = one.layers[at(layer)];
    for (int list = 0; list < rules(layer).lists; ++list)
      for (int64_t p = 0; p < n; ++p)
        EXPECT_TRUE(!rows.is_dropped(list, p) || rows.dropped_when(list, p) < n)
            << "position " << p << ", dropped by rank, came back";
    rows.truncate(n);
  }
  one.seen = n;
  one.exact_from = std::min(one.exact_from, n);
  return true;
}

// ---- what is held ----

void World::check_state() {
  for (const Live& one : live_) {
    ASSERT_EQ(cache_->tokens_seen(one.id), one.seen);
    for (int layer = 0; layer < num_layers(); ++layer) {
      const std::vector<int64_t> counts = cache_->live_rows(layer, one.id);
      ASSERT_EQ(std::ssize(counts), rules(layer).lists);
      for (int list = 0; list < rules(layer).lists; ++list) {
        const std::vector<int32_t> held = cache_->positions(layer, one.id, list);
        const std::vector<int64_t> want = one.layers[at(layer)].living(list, one.seen);
        ASSERT_EQ(std::vector<int64_t>(held.begin(), held.end()), want)
            << "layer " << layer << " list " << list << " after " << one.seen << " tokens";
        ASSERT_EQ(counts[at(list)], std::ssize(want));
      }
      check_materialised(one, layer);
    }
  }
  check_bytes();
}

/// Every position that all lists hold, in the form the next query reads; others are refused.
void World::check_materialised(const Live& one, int layer) {
  const OracleRules& r = rules(layer);
  const OracleLayer& rows = one.layers[at(layer)];
  std::vector<float> keys(at(r.kv_heads * r.key_dim)), values(at(r.kv_heads * r.value_dim));
  for (int64_t p = 0; p < one.seen; ++p) {
    bool is_held = true;
    for (int list = 0; list < r.lists; ++list) is_held &= rows.lives(list, p, one.seen);
    const auto materialise = [&] {
      cache_->materialise(layer, one.id, {p, p + 1},
                          dense_view(keys.data(), Dtype::f32, {1, r.kv_heads, r.key_dim}),
                          dense_view(values.data(), Dtype::f32, {1, r.kv_heads, r.value_dim}));
    };
    if (!is_held) {
      EXPECT_REFUSED("E_POSITION", "is not held", materialise()) << "position " << p;
      continue;
    }
    materialise();
    for (int head = 0; head < r.kv_heads; ++head) {
      const Vector key = rows.held(p, head, true), value = rows.held(p, head, false);
      for (int c = 0; c < r.key_dim; ++c)
        ASSERT_EQ(keys[at(head * r.key_dim + c)], static_cast<float>(key[at(c)]));
      for (int c = 0; c < r.value_dim; ++c)
        ASSERT_EQ(values[at(head * r.value_dim + c)], static_cast<float>(value[at(c)]));
    }
  }
}

/// From the texts: what the rows that must be there take.
void World::check_bytes() {
  const kvlab::Bytes bytes = cache_->bytes();
  EXPECT_GE(bytes.slack(), 0);
  if (config_.where.max_bytes >= 0) {
    EXPECT_LE(bytes.committed, config_.where.max_bytes);
  }
  if (live_.empty()) {
    EXPECT_EQ(bytes.committed, 0);
    EXPECT_EQ(bytes.cache_bytes(), 0);
    return;
  }
  double least = 0, residual = 0, scales = 0, columns = 0;
  bool shares = false;
  for (const Live& one : live_) {
    shares |= one.shares;
    for (int layer = 0; layer < num_layers(); ++layer) {
      const OracleRules& r = rules(layer);
      const double units = static_cast<double>(r.kv_heads) / r.lists;
      const auto [key, key_scale] = row_bytes_of(config_.key_codec, r.key_dim);
      const auto [value, value_scale] = row_bytes_of(config_.value_codec, r.value_dim);
      const auto [recent_key, recent_key_scale] = row_bytes_of(config_.recent_codec, r.key_dim);
      const auto [recent_value, recent_value_scale] =
          row_bytes_of(config_.recent_codec, r.value_dim);
      const bool direct = r.lag == 0 && r.tile == 1;
      for (int list = 0; list < r.lists; ++list) {
        const OracleLayer& rows = one.layers[at(layer)];
        const std::vector<int64_t> when = rows.encoded_at(list, one.seen - 1);
        for (int64_t p = 0; p < one.seen; ++p) {
          const bool lives = one.seen <= rows.until(list, p) && !rows.is_dropped(list, p);
          const bool is_recent = p < r.first || (!direct && (drops() || p >= one.exact_from));
          const bool is_past = p >= r.first && when[at(p)] < one.seen;
          if (drops() && !lives) continue;
          if (is_recent && (!drops() || !is_past)) {
            least += units * (recent_key + recent_value);
            residual += units * (recent_key + recent_value);
            scales += units * (recent_key_scale + recent_value_scale);
            if (p >= r.first || drops()) columns += 4;  // until
          }
          if (is_past) {
            least += units * (key + value);
            scales += units * (key_scale + value_scale);
          }
          if (drops() && p >= r.first) columns += is_past ? 8 : 4;  // position, until
        }
      }
    }
  }
  if (shares) return;
  if (drops()) {
    EXPECT_GE(static_cast<double>(bytes.payload), least - 0.5);
    EXPECT_GE(static_cast<double>(bytes.metadata), scales + columns - 0.5);
    return;
  }
  EXPECT_EQ(static_cast<double>(bytes.payload), least);
  EXPECT_EQ(static_cast<double>(bytes.residual), residual);
  EXPECT_GE(static_cast<double>(bytes.metadata), scales + columns);
  // Page tables alone make the difference, and contiguous lists of one part have none.
  EXPECT_EQ(std::fmod(static_cast<double>(bytes.metadata) - scales - columns, 4.0), 0.0);
}

}  // namespace kvlab::test
