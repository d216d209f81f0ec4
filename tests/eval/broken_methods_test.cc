// Five methods that are wrong in ways a table of scores would not show, each caught by a run.

#include <gmock/gmock.h>

#include <cstring>
#include <map>

#include "core/error.h"
#include "eval/experiment/run.h"
#include "eval/experiment/run_cell.h"
#include "eval/process.h"
#include "kernels/cpu_engine.h"
#include "tests/support/refusal.h"

namespace kvlab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// Stores keys and values as the dense cache does, but for what `spoil` does to them.
class Spoiled : public Project {
 public:
  explicit Spoiled(const ModelShape& shape) : layers_(shape.layers) {}
  Layout layout(int layer) const override { return dense_layout(at(layer), false); }
  Needs needs(int, int64_t) const override { return Needs::keys | Needs::values; }
  void rows(const Append& append, NewRows& out) const override {
    copy(append.keys, out.stream("key"));
    copy(append.values, out.stream("value"));
    spoil(append, out.stream("key"), out.stream("value"));
  }

 protected:
  virtual void spoil(const Append&, TensorView, TensorView) const {}
  const Layer& at(int layer) const { return layers_[static_cast<size_t>(layer)]; }
  static size_t row_bytes(const TensorView& rows) {
    return static_cast<size_t>(rows.size(1) * rows.size(2) * size_of(rows.dtype));
  }
  static void copy(const TensorView& from, const TensorView& to) {
    for (int64_t row = 0; row < from.size(0); ++row)
      std::memcpy(to.at(row), from.at(row), row_bytes(from));
  }

 private:
  std::vector<Layer> layers_;
};

class DropsTheNewest final : public Spoiled {
 public:
  using Spoiled::Spoiled;

 private:
  void spoil(const Append&, TensorView keys, TensorView values) const override {
    std::memset(keys.at(keys.size(0) - 1), 0, row_bytes(keys));
    std::memset(values.at(values.size(0) - 1), 0, row_bytes(values));
  }
};

/// Keys before RoPE, read as if they had been rotated.
class IgnoresPositions final : public Spoiled {
 public:
  using Spoiled::Spoiled;
  Needs needs(int, int64_t) const override { return Needs::keys_pre_rope | Needs::values; }
  void rows(const Append& append, NewRows& out) const override {
    copy(append.keys_pre_rope, out.stream("key"));
    copy(append.values, out.stream("value"));
  }
};

/// Every row gets the value of the pass's last.
class LeaksTheFuture final : public Spoiled {
 public:
  using Spoiled::Spoiled;

 private:
  void spoil(const Append&, TensorView, TensorView values) const override {
    const int64_t last = values.size(0) - 1;
    for (int64_t row = 0; row < last; ++row)
      std::memcpy(values.at(row), values.at(last), row_bytes(values));
  }
};

/// Keys differ in the last digits each time they are stored.
class IsNoisy final : public Spoiled {
 public:
  using Spoiled::Spoiled;

 private:
  void spoil(const Append&, TensorView keys, TensorView) const override {
    for (int64_t row = 0; row < keys.size(0); ++row) {
      float& first = *reinterpret_cast<float*>(keys.at(row));
      first += 1e-3F * static_cast<float>(++stored_ % 101);
    }
  }
  mutable int stored_ = 0;
};

/// One number per token in the cache, the rows themselves in memory of its own.
class HidesRows final : public Spoiled {
 public:
  using Spoiled::Spoiled;
  Layout layout(int) const override {
    return {.streams = {{.name = "ticket", .width = 1}}, .rebuilds = true};
  }
  Needs needs(int, int64_t) const override { return Needs::keys_pre_rope | Needs::values; }
  void rows(const Append& append, NewRows& out) const override {
    const TensorView ticket = out.stream("ticket");
    for (int64_t row = 0; row < append.rows.size(); ++row) {
      std::memset(ticket.at(row), 0, sizeof(float));
      const int32_t position = append.rows.positions[static_cast<size_t>(row)];
      hidden_[{append.layer, position}] = {bytes_of(append.keys_pre_rope, row),
                                           bytes_of(append.values, row)};
    }
  }
  void rebuild(const RebuildCall& call) const override {
    for (size_t i = 0; i < call.positions.size(); ++i) {
      const auto& [key, value] = hidden_.at({call.layer, call.positions[i]});
      std::memcpy(call.keys.at(static_cast<int64_t>(i)), key.data(), key.size());
      std::memcpy(call.values.at(static_cast<int64_t>(i)), value.data(), value.size());
    }
  }

 private:
  static std::vector<u8> bytes_of(const TensorView& rows, int64_t row) {
    std::vector<u8> bytes(row_bytes(rows));
    std::memcpy(bytes.data(), rows.at(row), bytes.size());
    return bytes;
  }
  mutable std::map<std::pair<int, int32_t>, std::pair<std::vector<u8>, std::vector<u8>>> hidden_;
};

template <class Broken>
void add_broken(Registry& registry, const char* name, bool exact) {
  registry.add(
      Method{.name = name,
             .summary = "broken",
             .schema = "{}",
             .capabilities = [exact](const Setup&) { return Capabilities{.exact = exact}; },
             .stages =
                 [](const Setup& setup) {
                   return Stages{.project = std::make_shared<Broken>(*setup.shape)};
                 }});
}

Registry with_broken_methods() {
  Registry registry;
  register_all(registry);
  add_broken<Spoiled>(registry, "not_broken", true);
  add_broken<DropsTheNewest>(registry, "drops_the_newest", true);
  add_broken<IgnoresPositions>(registry, "ignores_positions", true);
  add_broken<LeaksTheFuture>(registry, "leaks_the_future", false);
  add_broken<IsNoisy>(registry, "is_noisy", false);
  add_broken<HidesRows>(registry, "hides_rows", false);
  return registry;
}

class BrokenMethod : public testing::Test {
 protected:
  RunResult run(const std::string& method, Json task = {{"builtin", "copy"}, {"samples", 2}},
                const std::string& policy = "raw_chunk", Json model = {{"builtin", "recall2"}}) {
    const Json config{{"schema", kConfigSchema},   {"name", "broken"},
                      {"model", std::move(model)}, {"tasks", {std::move(task)}},
                      {"methods", {method}},       {"matrix", {{"read_policy", {policy}}}}};
    experiment_ = parse_experiment(config, {}, registry_, catalogue());
    return run_experiment(experiment_, registry_, catalogue(), {.digest_models = false});
  }
  Registry registry_ = with_broken_methods();
  Experiment experiment_{};
};

TEST_F(BrokenMethod, OneThatIsNotBrokenPasses) {
  EXPECT_THAT(run("not_broken").broken, IsEmpty());
  EXPECT_THAT(run("not_broken", {{"builtin", "mqar"}, {"samples", 2}}, "stored").broken, IsEmpty());
}

TEST_F(BrokenMethod, ThatDropsTheNewestTokenBreaksItsWord) {
  // The last token of the context is the value of the last pair.
  EXPECT_THAT(
      run("drops_the_newest", {{"builtin", "mqar"}, {"samples", 2}}).broken,
      ElementsAre(HasSubstr("drops_the_newest on mqar: says that it is exact, but its NLLs")));
}

TEST_F(BrokenMethod, ThatIgnoresPositionsBreaksItsWord) {
  EXPECT_THAT(
      run("ignores_positions", {{"builtin", "mqar"}, {"samples", 2}}).broken,
      ElementsAre(HasSubstr("ignores_positions on mqar: says that it is exact, but its NLLs")));
}

TEST_F(BrokenMethod, ThatLeaksTheFutureIsRefused) {
  for (const char* policy : {"stored", "raw_chunk"})
    EXPECT_REFUSED("E_READS_FUTURE", "leaks_the_future",
                   run("leaks_the_future", {{"builtin", "mqar"}, {"samples", 2}}, policy));
}

TEST_F(BrokenMethod, OneThatNeverRepeatsItselfDoesNotReadTheFuture) {
  const RunResult result = run("is_noisy", {{"builtin", "mqar"}, {"samples", 2}});
  EXPECT_THAT(result.finished.back().outcome.samples, testing::SizeIs(2));
}

/// A sanitizer brings an allocator of its own, of which the C library knows nothing.
bool heap_is_seen() {
  const int64_t before = heap_bytes();
  const std::vector<u8> block(1 << 20);
  return heap_bytes() - before >= std::ssize(block);
}

TEST_F(BrokenMethod, ThatKeepsRowsOutsideTheCacheIsRefused) {
  if (!heap_is_seen()) GTEST_SKIP() << "the heap's size is not known here";
  // 2 layers of 64 heads of 64 features, twice, in float32: 128 KiB a token.
  const Json wide{{"builtin", "recall2"}, {"heads", 64}, {"kv_heads", 64}};
  const Json task{{"builtin", "mqar"}, {"context", 600}, {"samples", 1}};
  EXPECT_REFUSED("E_BYTES_MISMATCH", "hides_rows: after 600 tokens",
                 run("hides_rows", task, "raw_chunk", wide));
  for (const char* honest : {"quant", "window"}) {
    if (!registry_.has_method(honest)) continue;
    EXPECT_NO_THROW(run(honest, task, "raw_chunk", wide));
  }
}

/// Each query may also read the row behind its own.
class OffByOne final : public Engine {
 public:
  Device device() const override { return inner_->device(); }
  void encode(const EncodeCall& call) override { inner_->encode(call); }
  void decode(const DecodeCall& call) override { inner_->decode(call); }
  void move(const MoveCall& call) override { inner_->move(call); }
  std::shared_ptr<const Plan> plan(const Layer& shape, const RowMap& rows,
                                   std::span<const Segment> segments,
                                   const SplitPolicy& split) override {
    return inner_->plan(shape, shifted(rows), segments, split);
  }
  void attend(const AttendCall& call, Ran* later) override {
    std::vector<Segment> segments(call.segments.begin(), call.segments.end());
    for (Segment& segment : segments)  // turned to where they stand
      if (segment.query_positions.empty()) segment.query_positions = call.rows.positions;
    AttendCall wrong = call;
    wrong.rows = shifted(call.rows);
    wrong.segments = segments;
    inner_->attend(wrong, later);
  }
  void sync() override { inner_->sync(); }
  int64_t scratch_bytes() const override { return inner_->scratch_bytes(); }

 private:
  RowMap shifted(const RowMap& rows) {
    positions_.assign(rows.positions.begin(), rows.positions.end());
    for (int32_t& position : positions_) ++position;
    RowMap wrong = rows;
    wrong.positions = positions_;
    return wrong;
  }
  std::shared_ptr<Engine> inner_ = make_cpu_engine();
  std::vector<int32_t> positions_{};
};

TEST_F(BrokenMethod, WithACausalMaskThatIsOffByOneIsRefused) {
  const Json config{{"schema", kConfigSchema},
                    {"name", "broken"},
                    {"model", {{"builtin", "recall2"}}},
                    {"tasks", {{{"builtin", "mqar"}, {"samples", 1}}}},
                    {"methods", {"dense"}}};
  const Experiment experiment = parse_experiment(config, {}, registry_, catalogue());
  Planner planner(registry_, catalogue(), {.digest_models = false});
  const PlannedCell planned = planner.plan(experiment.cells[0], {});
  const auto model = load_model(planned.model);
  const auto cell = [&](std::shared_ptr<Engine> engine) {
    return run_cell(planned, {.model = model.get(), .registry = &registry_, .engine = engine});
  };
  EXPECT_NO_THROW(cell(make_cpu_engine()));
  EXPECT_REFUSED("E_READS_FUTURE", "dense: the score of token", cell(std::make_shared<OffByOne>()));
}

}  // namespace
}  // namespace kvlab
