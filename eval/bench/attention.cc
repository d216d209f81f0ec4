#include "eval/bench/attention.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <vector>

#include "core/arena.h"
#include "core/compose.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/page_layout.h"
#include "eval/bench/seconds.h"
#include "eval/bench/torch_attention.h"
#include "eval/method_card.h"
#include "eval/threads.h"
#include "kernels/cpu_engine.h"
#include "kernels/isa.h"
#include "kernels/roofline.h"

namespace kvlab {
namespace {

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

void check(const AttentionBench& b) {
  KVLAB_REQUIRE(b.heads >= 1 && b.kv_heads >= 1 && b.heads % b.kv_heads == 0, "E_CONFIG",
                "bench: ", b.heads, " heads over ", b.kv_heads,
                " kv heads; the first must be a multiple of the second");
  KVLAB_REQUIRE(b.head_dim >= 1 && b.head_dim <= 4096, "E_CONFIG", "bench: head_dim ", b.head_dim,
                " is outside 1..4096");
  KVLAB_REQUIRE(b.tokens >= 1 && b.batch >= 1 && b.tokens * b.batch <= int64_t{1} << 24, "E_CONFIG",
                "bench: ", b.batch, " sequences of ", b.tokens,
                " tokens; at least 1 each, at most 2^24 tokens together");
  KVLAB_REQUIRE(b.queries >= 1 && b.queries <= b.tokens, "E_CONFIG", "bench: ", b.queries,
                " queries for ", b.tokens, " tokens; allowed: 1 to the number of tokens");
  KVLAB_REQUIRE(b.threads >= 1 && b.repeats >= 1, "E_CONFIG", "bench: ", b.threads, " threads and ",
                b.repeats, " repeats; at least 1 of each");
}

/// What is stored of a token, and how it is read.
struct Stored {
  Layer shape{};
  Layout layout{};
  std::vector<StreamLayout> streams{};
  std::optional<Composition> composition{};  // keeps a method's maps
};

StreamLayout stored_stream(const StreamSpec& spec, const Encoding& encoding,
                           const Registry& registry) {
  StreamLayout s{.name = spec.name, .units = spec.units, .width = spec.width};
  s.codec = &registry.codec(encoding.codec);
  const Json params = encoding.params.empty()
                          ? Json::object()
                          : parse_json(encoding.params, "parameters of codec " + encoding.codec);
  s.params =
      registry.codec_schema(encoding.codec).complete(params, "bench: codec " + encoding.codec);
  s.rotate_hadamard = encoding.rotate_hadamard;
  s.format = s.codec->layout(spec.width, s.params);
  return s;
}

Layer plain_layer(const AttentionBench& b) {
  return {.num_heads = b.heads,
          .num_kv_heads = b.kv_heads,
          .head_dim = b.head_dim,
          .value_dim = b.head_dim,
          .scale = 1.0 / std::sqrt(b.head_dim)};
}

/// Keys and values as a dense cache holds them, in one codec.
Stored stored_in(const AttentionBench& b, const Encoding& encoding, const Registry& registry) {
  Stored stored{.shape = plain_layer(b)};
  stored.layout = dense_layout(stored.shape, false);
  for (const StreamSpec& spec : stored.layout.streams)
    stored.streams.push_back(stored_stream(spec, encoding, registry));
  return stored;
}

/// As a method stores and reads them, under RoPE.
Stored stored_by(const AttentionBench& b, const Registry& registry) {
  const NamedShape named{.name = "bench",
                         .num_layers = 1,
                         .num_heads = b.heads,
                         .num_kv_heads = b.kv_heads,
                         .head_dim = b.head_dim};
  const ModelShape shape = one_layer(named);
  Stored stored{.shape = shape.layers[0]};
  stored.composition = example_composition(
      parse_methods({{"name", b.codec}, {"params", b.params}}, registry), shape, registry);
  const Composition& made = *stored.composition;
  KVLAB_REQUIRE(made.project != nullptr && made.selects.empty(), "E_CONFIG", "bench: `", b.codec,
                "` is a method that drops rows or codes dense ones; name a codec, or a method that "
                "says which numbers are stored");
  stored.layout = made.project->layout(0);
  for (const StreamSpec& spec : stored.layout.streams) {
    const Dtype dtype = spec.dtype.value_or(Dtype::bf16);
    const Encoding as_it_is{.codec = std::string(name_of(dtype))};
    stored.streams.push_back(stored_stream(spec, spec.encoding.value_or(as_it_is), registry));
  }
  return stored;
}

/// Rows of all sequences, contiguous per sequence.
class StoredRows {
 public:
  StoredRows(const AttentionBench& b, Stored stored, Engine& engine)
      : stored_(std::move(stored)),
        shape_(stored_.shape),
        layout_(stored_.layout),
        tokens_(b.tokens),
        queries_(b.queries) {
    page_ = make_page_layout(stored_.streams, {}, 1024);
    view_.page = &page_;
    // Whole pages, so that codecs of whole tiles are filled; queries stand at their ends.
    tokens_ = (tokens_ + page_.tile_tokens - 1) / page_.tile_tokens * page_.tile_tokens;
    const int64_t pages = (tokens_ + page_.page_tokens - 1) / page_.page_tokens;
    bytes_ = pages * page_.bytes * b.batch;
    memory_ = arena_.reserve(bytes_);
    memory_->commit(bytes_);
    u8* base = memory_->base();
    for (int s = 0; s < b.batch; ++s) {
      view_.lists.push_back({.base = base + s * pages * page_.bytes,
                             .stride = page_.bytes,
                             .last = tokens_,
                             .settled = tokens_});
      sequences_.push_back(static_cast<SeqId>(s));
      for (int64_t q = 0; q < queries_; ++q)
        positions_.push_back(static_cast<int32_t>(tokens_ - queries_ + q));
      indptr_.push_back(static_cast<int32_t>(positions_.size()));
    }
    fill(engine);
    const int64_t cells = static_cast<int64_t>(positions_.size()) * b.heads * b.head_dim;
    query_.resize(static_cast<size_t>(cells));
    out_.resize(static_cast<size_t>(cells));
    std::mt19937_64 random(7);
    std::normal_distribution<float> normal;
    for (uint16_t& x : query_)
      x = static_cast<uint16_t>(std::bit_cast<uint32_t>(normal(random)) >> 16);
  }

  Ran attend(Engine& engine, const Plan* plan) {
    const Segment segment{.rows = view_, .layout = &layout_};
    const int64_t rows = static_cast<int64_t>(positions_.size());
    Ran ran;
    engine.attend(
        {.shape = &shape_,
         .rows = this->rows(),
         .queries =
             dense_view(query_.data(), Dtype::bf16, {rows, shape_.num_heads, shape_.head_dim}),
         .segments = std::span(&segment, 1),
         .plan = plan,
         .out = dense_view(out_.data(), Dtype::bf16, {rows, shape_.num_heads, shape_.value_dim})},
        &ran);
    engine.sync();
    return ran;
  }

  std::shared_ptr<const Plan> plan(Engine& engine) const {
    const Segment segment{.rows = view_, .layout = &layout_};
    return engine.plan(shape_, rows(), std::span(&segment, 1), {});
  }

  const u8* data() const { return view_.lists.front().base; }
  int64_t bytes() const { return bytes_; }
  /// Of rows: what one attend has to read at least.
  int64_t stored_bytes() const {
    const RowBytes one = row_bytes(page_, {0, tokens_});
    return (one.payload + one.metadata) * std::ssize(view_.lists);
  }

 private:
  RowMap rows() const { return {sequences_, indptr_, positions_}; }

  /// Rows of 1024 random tokens, repeated.
  void fill(Engine& engine) {
    constexpr int64_t kRows = 1024;
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal;
    int64_t widest = 0;
    for (const StreamLayout& stream : stored_.streams)
      widest = std::max<int64_t>(widest, int64_t{stream.units} * stream.width);
    std::vector<float> rows(static_cast<size_t>(kRows * widest));
    for (float& x : rows) x = normal(random);
    for (int32_t list = 0; list < std::ssize(view_.lists); ++list)
      for (int64_t first = 0; first < tokens_; first += kRows) {
        std::vector<Placement> where;
        for (int64_t t = first; t < std::min(tokens_, first + kRows); ++t)
          where.push_back({static_cast<int32_t>(t - first), list, t});
        for (size_t s = 0; s < stored_.streams.size(); ++s)
          engine.encode(
              {.to = &view_,
               .stream = static_cast<int>(s),
               .rows = dense_view(rows.data(), Dtype::f32,
                                  {kRows, stored_.streams[s].units, stored_.streams[s].width}),
               .where = where});
      }
  }

  Stored stored_;
  const Layer& shape_;
  const Layout& layout_;
  int64_t tokens_, queries_, bytes_ = 0;
  PageLayout page_{};
  PartView view_{};
  Arena arena_{Arena::Options{}};  // huge pages, as a cache has them
  std::unique_ptr<Arena::Range> memory_{};
  std::vector<SeqId> sequences_{};
  std::vector<int32_t> indptr_{0}, positions_{};
  std::vector<uint16_t> query_{}, out_{};
};

constexpr size_t kMoreThanCaches = size_t{256} << 20;

/// Seconds of each repeat.
struct Times {
  std::vector<double> ours{}, dense{}, fused{}, matmul{}, bandwidth{}, peak{};
};

std::vector<double> ratios(const std::vector<double>& theirs, const std::vector<double>& ours) {
  std::vector<double> all;
  for (size_t i = 0; i < theirs.size(); ++i) all.push_back(theirs[i] / ours[i]);
  return all;
}

}  // namespace

Json bench_attention(const AttentionBench& bench, const Registry& registry) {
  check(bench);
  set_thread_count(bench.threads);
  const Isa isa = isa_named(bench.isa);
  const std::shared_ptr<Engine> engine =
      make_cpu_engine({.threads = bench.threads, .isa = bench.isa});
  const bool is_method = !registry.has_codec(bench.codec) && registry.has_method(bench.codec);
  const Encoding encoding{.codec = bench.codec,
                          .params = bench.params.dump(),
                          .rotate_hadamard = bench.rotate_hadamard};
  StoredRows ours(bench,
                  is_method ? stored_by(bench, registry) : stored_in(bench, encoding, registry),
                  *engine);
  std::unique_ptr<StoredRows> dense;
  if (bench.against_dense)
    dense = std::make_unique<StoredRows>(bench, stored_in(bench, {.codec = "bfloat16"}, registry),
                                         *engine);
  std::unique_ptr<TorchAttention> torch;
  if (bench.against_torch)
    torch = std::make_unique<TorchAttention>(TorchAttention::Shape{.batch = bench.batch,
                                                                   .heads = bench.heads,
                                                                   .kv_heads = bench.kv_heads,
                                                                   .head_dim = bench.head_dim,
                                                                   .tokens = bench.tokens,
                                                                   .queries = bench.queries});
  const auto plan = ours.plan(*engine);
  const auto dense_plan = dense ? dense->plan(*engine) : nullptr;
  const StoredRows& widest = dense && dense->bytes() > ours.bytes() ? *dense : ours;

  const std::vector<u8> elsewhere(bench.warm ? 0 : kMoreThanCaches, 1);
  const auto timed = [&](const auto& seconds) {
    if (bench.warm) {
      seconds();
    } else {
      read_bandwidth(isa, elsewhere.data(), std::ssize(elsewhere), bench.threads);
    }
    return seconds();
  };

  /// Of the memory the rows come from: caches where they are warm.
  const auto bandwidth_of = [&](const StoredRows& rows) {
    const bool is_small = !bench.warm && rows.bytes() < std::ssize(elsewhere);
    return is_small ? read_bandwidth(isa, elsewhere.data(), std::ssize(elsewhere), bench.threads)
                    : read_bandwidth(isa, rows.data(), rows.bytes(), bench.threads);
  };

  Ran ran = ours.attend(*engine, plan.get());
  Times times;
  for (int i = -2; i < bench.repeats; ++i) {
    Times one;
    one.bandwidth.push_back(timed([&] { return bandwidth_of(widest); }));
    one.peak.push_back(peak_multiply_adds(isa, bench.threads));
    one.ours.push_back(
        timed([&] { return seconds_of([&] { ran = ours.attend(*engine, plan.get()); }); }));
    if (dense)
      one.dense.push_back(
          timed([&] { return seconds_of([&] { dense->attend(*engine, dense_plan.get()); }); }));
    if (torch) {
      one.fused.push_back(timed([&] { return torch->fused_seconds(); }));
      one.matmul.push_back(timed([&] { return torch->matmul_seconds(); }));
    }
    if (i < 0) continue;  // warm-up
    for (const auto member : {&Times::ours, &Times::dense, &Times::fused, &Times::matmul,
                              &Times::bandwidth, &Times::peak})
      (times.*member).insert((times.*member).end(), (one.*member).begin(), (one.*member).end());
  }

  const double seconds = median(times.ours);
  const double bandwidth = median(times.bandwidth), peak = median(times.peak);
  const double multiply_adds = static_cast<double>(ran.flops) / 2;
  const double roofline =
      std::max(static_cast<double>(ran.bytes_read) / bandwidth, multiply_adds / peak);
  Json result{{"codec", bench.codec},
              {"params", bench.params},
              {"rotate_hadamard", bench.rotate_hadamard},
              {"heads", bench.heads},
              {"kv_heads", bench.kv_heads},
              {"head_dim", bench.head_dim},
              {"tokens", bench.tokens},
              {"batch", bench.batch},
              {"queries", bench.queries},
              {"threads", bench.threads},
              {"caches", bench.warm ? "warm" : "cold"},
              {"repeats", bench.repeats},
              {"isa", std::string(name_of(isa))},
              {"kernel", ran.kernel},
              {"level", ran.level},
              {"reason", ran.reason},
              {"ms", 1e3 * seconds},
              {"stored_bytes", ours.stored_bytes()},
              {"bytes_read", ran.bytes_read},
              {"multiply_adds", multiply_adds},
              {"achieved_gbs", 1e-9 * static_cast<double>(ran.bytes_read) / seconds},
              {"achieved_gmacs", 1e-9 * multiply_adds / seconds},
              {"read_bandwidth_gbs", 1e-9 * bandwidth},
              {"peak_gmacs", 1e-9 * peak},
              {"peak_gmacs_of", roofline_loops(isa).multiply_adds_how},
              {"roofline_ms", 1e3 * roofline},
              {"share_of_roofline", roofline / seconds}};
  if (dense) {
    result["dense_ms"] = 1e3 * median(times.dense);
    result["ratio_to_dense"] = median(ratios(times.dense, times.ours));
  }
  if (torch) {
    const bool fused = median(times.fused) <= median(times.matmul);
    result["torch_sdpa_ms"] = 1e3 * median(times.fused);
    result["torch_matmul_ms"] = 1e3 * median(times.matmul);
    result["torch_faster_form"] = fused ? "scaled_dot_product_attention" : "matmul";
    result["ratio_to_torch"] = median(ratios(fused ? times.fused : times.matmul, times.ours));
  }
  return result;
}

std::string bench_attention_text(const Json& r) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2);
  text << r.at("codec").get<std::string>() << ", " << r.at("heads") << "/" << r.at("kv_heads")
       << " heads of " << r.at("head_dim") << ", " << r.at("batch") << " x " << r.at("tokens")
       << " tokens, " << r.at("queries") << " queries, " << r.at("threads") << " threads, "
       << r.at("isa").get<std::string>() << ", caches " << r.at("caches").get<std::string>() << "\n"
       << "  " << r.at("ms").get<double>() << " ms; at best " << r.at("roofline_ms").get<double>()
       << " ms (" << r.at("read_bandwidth_gbs").get<double>() << " GB/s, "
       << r.at("peak_gmacs").get<double>() << " G multiply-adds/s of "
       << r.at("peak_gmacs_of").get<std::string>() << "), "
       << 100 * r.at("share_of_roofline").get<double>() << " % of that\n"
       << "  " << r.at("level").get<std::string>() << ": " << r.at("reason").get<std::string>()
       << "\n";
  if (r.contains("ratio_to_dense"))
    text << "  " << r.at("ratio_to_dense").get<double>() << " x the speed of our bfloat16 cache ("
         << r.at("dense_ms").get<double>() << " ms)\n";
  if (r.contains("ratio_to_torch"))
    text << "  " << r.at("ratio_to_torch").get<double>() << " x the speed of LibTorch ("
         << r.at("torch_faster_form").get<std::string>() << "; sdpa "
         << r.at("torch_sdpa_ms").get<double>() << " ms, matmul "
         << r.at("torch_matmul_ms").get<double>() << " ms)\n";
  return text.str();
}

}  // namespace kvlab
