// Lists and intervals: which rows a query may read, in which part they lie, who computes what.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "core/error.h"
#include "kernels/cpu_engine.h"
#include "tests/kernels/scene.h"

namespace kvlab::test {
namespace {

std::string code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return "none";
}

class Segments : public ::testing::Test {
 protected:
  /// After the scene's pages were changed by hand.
  void check(Scene& scene, const std::string& what, const RunOptions& run = {}) {
    scene.segments.front().rows = scene.pages->view;
    const Scene::Expected expected = scene.expected();
    expect_close(scene.run(*engine_, run), expected, Bound::of(expected, scene.shape.head_dim, 400),
                 what);
  }
  std::shared_ptr<Engine> engine_ = make_cpu_engine({.threads = 2});
};

TEST_F(Segments, PagesMayLieAnywhere) {
  SceneOptions options{.key_codec = "int4", .lengths = {300, 17, 64}, .query_tokens = 2};
  Scene in_order(*engine_, options);
  options.pages = {.shuffle = true, .gap = 64};
  Scene shuffled(*engine_, options);
  const Answer a = in_order.run(*engine_), b = shuffled.run(*engine_);
  EXPECT_EQ(a.out, b.out);
  EXPECT_EQ(a.lse, b.lse);
}

TEST_F(Segments, ListsPerHeadOfEqualRowsEqualOneList) {
  for (const int lists : {1, 2, 4})
    for (const char* codec : {"bfloat16", "int4"}) {
      Scene scene(*engine_, {.num_heads = 8,
                             .num_kv_heads = 4,
                             .key_codec = codec,
                             .lengths = {130, 70},
                             .query_tokens = 3,
                             .lists_per_sequence = lists});
      check(scene, std::to_string(lists) + " lists");
    }
}

TEST_F(Segments, RowsDieAfterTheirUntilAndGraceSparesThem) {
  Scene scene(*engine_, {.lengths = {200}, .query_tokens = 50, .pages = {.until_column = true}});
  for (int64_t t = 0; t < 200; ++t)
    scene.pages->set_int(0, scene.pages->layout.until, t,
                         t % 3 == 0 ? kForever : static_cast<int32_t>(t + 20));
  check(scene, "until");
  scene.pages->view.lists[0].grace = 170;
  check(scene, "grace");
  for (int64_t t = 0; t < 200; ++t) scene.pages->set_int(0, scene.pages->layout.until, t, -1);
  scene.pages->view.lists[0].grace = kForever;
  check(scene, "all dead");
}

TEST_F(Segments, UnsettledTilesAreReadFromTheirLastRowOn) {
  for (const int tile : {1, 16, 64})
    for (const int32_t lag : {0, 1, 30})
      for (const int64_t settled : {0, 64, 192}) {
        Scene scene(*engine_, {.lengths = {200}, .query_tokens = 200});
        scene.pages->view.from_tile = tile;
        scene.pages->view.from_lag = lag;
        scene.pages->view.lists[0].settled = settled;
        check(scene, "tile " + std::to_string(tile) + ", lag " + std::to_string(lag) +
                         ", settled " + std::to_string(settled));
      }
}

TEST_F(Segments, CrossAttentionReadsEveryRow) {
  Scene scene(*engine_, {.lengths = {100, 5}, .query_tokens = 7});
  scene.pages->view.from_lag = PartView::kNoFrom;
  check(scene, "cross");
}

TEST_F(Segments, PositionsOfAColumnDecideNotSlots) {
  for (const int64_t window : {-1, 40}) {
    Scene scene(*engine_, {.lengths = {150, 64},
                           .query_tokens = 9,
                           .window_left = window,
                           .alibi = true,
                           .distance_bias = 60,
                           .pages = {.page_tokens = 16, .position_column = true}});
    for (int list = 0; list < 2; ++list)
      for (int64_t t = 0; t < (list == 0 ? 150 : 64); ++t)
        scene.pages->set_int(list, scene.pages->layout.position, t,
                             static_cast<int32_t>(t < 20 ? t / 2 * 2 + t % 2 : t * 2 - 20));
    for (size_t i = 0; i < scene.positions_.size(); ++i)
      scene.positions_[i] = static_cast<int32_t>((i < 9 ? 270 : 100) + i % 9);
    check(scene, "window " + std::to_string(window));
  }
}

TEST_F(Segments, DistancesBeginWhereTheQueryIsSeenFrom) {
  for (const int entries : {1, 20, 1000}) {
    Scene scene(*engine_, {.lengths = {150, 90}, .query_tokens = 4, .distance_bias = entries});
    for (const int32_t position : scene.positions_)
      scene.seen_from.push_back(std::max(100, position - 37));
    scene.segments.front().query_positions = scene.seen_from;
    check(scene, std::to_string(entries) + " entries");
  }
}

TEST_F(Segments, HolesAreSkipped) {
  for (const bool column : {false, true}) {
    Scene scene(*engine_, {.lengths = {200},
                           .query_tokens = 120,
                           .window_left = 60,
                           .pages = {.page_tokens = 16, .position_column = column}});
    for (const int64_t page : {0, 3, 4, 11}) scene.pages->punch(0, page);
    check(scene, column ? "with positions" : "without");
  }
}

TEST_F(Segments, NarrowedListsReadTheirSlotsOnly) {
  Scene scene(*engine_, {.key_codec = "int8",
                         .lengths = {150, 90},
                         .query_tokens = 4,
                         .pages = {.until_column = true}});
  std::vector<int64_t> slots, indptr{0};
  for (int list = 0; list < 2; ++list) {
    const int64_t n = list == 0 ? 150 : 90;
    for (int64_t t = 0; t < n; ++t)
      if (t % 7 < 3)
        slots.push_back(t);
      else
        scene.pages->set_int(list, scene.pages->layout.until, t, -1);  // for the definition
    indptr.push_back(std::ssize(slots));
  }
  const Scene::Expected expected = scene.expected();
  for (int list = 0; list < 2; ++list)
    for (int64_t t = 0; t < (list == 0 ? 150 : 90); ++t)
      scene.pages->set_int(list, scene.pages->layout.until, t, kForever);
  scene.segments.front().narrowed =
      Ragged{indptr, dense_view(slots.data(), Dtype::i64, {std::ssize(slots)})};
  expect_close(scene.run(*engine_), expected, Bound::of(expected, 64, 150), "narrowed");
}

TEST_F(Segments, PartsOfDifferentCodecsAreOneList) {
  // The same rows as one part: slots [0, 30) float32, [30, 158) int4, [158, 200) bfloat16.
  struct Cut {
    const char* codec;
    int64_t first, last;
    bool hadamard;
  };
  for (const bool hadamard : {false, true}) {
    const std::vector<Cut> cuts{
        {"float32", 0, 30, false}, {"int4", 30, 158, hadamard}, {"bfloat16", 158, 200, false}};
    Scene scene(*engine_,
                {.lengths = {200}, .query_tokens = 3, .softcap = 10, .distance_bias = 90});
    const Layer& shape = scene.shape;
    std::vector<std::unique_ptr<Pages>> parts;
    std::vector<Segment> segments;
    std::mt19937_64 random(3);
    for (const Cut& cut : cuts) {
      parts.push_back(std::make_unique<Pages>(
          std::vector<StreamLayout>{stream("key", 2, 64, cut.codec, "{}", cut.hadamard),
                                    stream("value", 2, 64, cut.codec, "{}", cut.hadamard)},
          1));
      Pages& pages = *parts.back();
      pages.resize(0, 0, cut.last - cut.first);
      pages.view.position_offset = cut.first;
      for (int s = 0; s < 2; ++s) {
        std::vector<std::vector<float>> rows;
        for (int64_t t = cut.first; t < cut.last; ++t) rows.push_back(normal(random, 128));
        pages.write(*engine_, s, 0, 0, rows);
      }
      segments.push_back({.rows = pages.view, .layout = &scene.layout});
    }
    scene.segments = segments;
    const Answer answer = scene.run(*engine_);
    for (int head = 0; head < 4; ++head)
      for (int q = 0; q < 3; ++q) {
        std::vector<oracle::Row> rows;
        for (const auto& part : parts)
          for (oracle::Row& row : oracle_rows(*part, shape, 0, head / 2, false))
            rows.push_back(std::move(row));
        const size_t cell = static_cast<size_t>(q * 4 + head);
        const std::vector<double> query(
            scene.queries.begin() + static_cast<int64_t>(cell) * 64,
            scene.queries.begin() + static_cast<int64_t>(cell + 1) * 64);
        const oracle::Answer want = oracle::attend(query, 197 + q, rows, scene.head(q, head), 64);
        for (size_t c = 0; c < 64; ++c)
          EXPECT_NEAR(answer.out[cell * 64 + c], want.out[c], 4e-5) << hadamard;
        EXPECT_NEAR(answer.lse[cell], want.lse, 4e-5);
      }
    EXPECT_EQ(answer.ran.level, "fused");
    EXPECT_NE(answer.ran.kernel.find("int4"), std::string::npos);
  }
}

TEST_F(Segments, OfNothingGiveNothing) {
  Scene scene(*engine_, {.lengths = {20}, .query_tokens = 2, .sinks = true});
  scene.segments.clear();
  const Answer answer = scene.run(*engine_);
  for (const float x : answer.out) EXPECT_EQ(x, 0.0f);
  for (size_t i = 0; i < answer.lse.size(); ++i) EXPECT_FLOAT_EQ(answer.lse[i], scene.sinks[i % 4]);
  scene.sinks.clear();
  for (const float x : scene.run(*engine_).lse)
    EXPECT_EQ(x, -std::numeric_limits<float>::infinity());
}

TEST_F(Segments, MassIsTheProbabilityEachRowGot) {
  for (const int lists : {1, 2})
    for (const auto over : {MassRequest::Over::sum, MassRequest::Over::max})
      for (const int64_t last : {0, 5}) {
        Scene scene(*engine_, {.num_heads = 4,
                               .num_kv_heads = 2,
                               .key_codec = "int4",
                               .lengths = {150, 40, 0},
                               .query_tokens = 20,
                               .window_left = 70,
                               .sinks = true,
                               .distance_bias = last == 0 ? 0 : 30,
                               .lists_per_sequence = lists});
        const int heads = 4 / lists;
        std::vector<float> mass(static_cast<size_t>(190 * lists * heads), -1.0f), out, lse;
        AttendCall call = scene.call();
        out.resize(60 * 4 * 64);
        lse.resize(60 * 4);
        call.out = dense_view(out.data(), Dtype::f32, {60, 4, 64});
        call.lse_ln = dense_view(lse.data(), Dtype::f32, {60, 4});
        call.mass = dense_view(mass.data(), Dtype::f32, {190 * lists, heads});
        call.mass_request = MassRequest{.over = over, .last_queries = last, .wanted = true};
        engine_->attend(call, nullptr);
        std::vector<float> again(mass.size(), -1.0f);
        call.out = {};
        call.mass = dense_view(again.data(), Dtype::f32, {190 * lists, heads});
        engine_->attend(call, nullptr);
        EXPECT_EQ(mass, again);

        std::vector<double> want(mass.size(), 0.0);
        for (int s = 0; s < 2; ++s)
          for (int head = 0; head < 4; ++head) {
            const int list = lists == 1 ? 0 : head / 2;
            const int64_t n = s == 0 ? 150 : 40, before = s == 0 ? 0 : 150 * lists;
            const auto rows = oracle_rows(*scene.pages, scene.shape, s, head / 2, false);
            for (int q = last == 0 ? 0 : 20 - static_cast<int>(last); q < 20; ++q) {
              const int64_t row = s * 20 + q;
              const auto begin = scene.queries.begin() + (row * 4 + head) * 64;
              const oracle::Answer a =
                  oracle::attend({begin, begin + 64}, n - 20 + q, rows, scene.head(row, head), 64);
              for (int64_t t = 0; t < n; ++t) {
                double& cell =
                    want[static_cast<size_t>((before + list * n + t) * heads + head % heads)];
                const double p = a.probability[static_cast<size_t>(t)];
                cell = over == MassRequest::Over::max ? std::max(cell, p) : cell + p;
              }
            }
          }
        for (size_t i = 0; i < mass.size(); ++i)
          EXPECT_NEAR(mass[i], want[i], 2e-5) << "cell " << i << ", lists " << lists;
      }
}

TEST_F(Segments, BatchOfManyEqualsSinglesUnderAFixedSplit) {
  const SplitPolicy fixed{SplitPolicy::Kind::fixed, 64};
  Scene all(*engine_, {.key_codec = "int4", .lengths = {300, 17, 200, 64}, .query_tokens = 3});
  const Answer batch = all.run(*engine_, {.split = fixed});
  const std::shared_ptr<Engine> one_thread = make_cpu_engine({.threads = 1});
  EXPECT_EQ(all.run(*one_thread, {.split = fixed}).out, batch.out);
  const PartView view = all.pages->view;
  for (int s = 0; s < 4; ++s) {
    const int32_t indptr[] = {0, 3};
    const SeqId id[] = {static_cast<SeqId>(s)};
    PartView alone = view;
    alone.lists = {view.lists[static_cast<size_t>(s)]};
    const Segment segment{.rows = alone, .layout = &all.layout};
    AttendCall call = all.call();
    call.segments = std::span(&segment, 1);
    call.rows = {id, indptr, std::span(all.positions_).subspan(static_cast<size_t>(3 * s), 3)};
    call.queries = call.queries.rows({3 * s, 3 * s + 3});
    call.split = fixed;
    std::vector<float> out(3 * 4 * 64);
    call.out = dense_view(out.data(), Dtype::f32, {3, 4, 64});
    engine_->attend(call, nullptr);
    EXPECT_EQ(std::memcmp(out.data(), batch.out.data() + s * 3 * 4 * 64, out.size() * 4), 0);
  }
}

TEST_F(Segments, PrefillEqualsDecodeStepsInsideTheBound) {
  Scene prefill(*engine_, {.key_codec = "bfloat16", .lengths = {90}, .query_tokens = 90});
  const Answer all = prefill.run(*engine_);
  for (const int64_t step : {0, 1, 63, 64, 89}) {
    AttendCall call = prefill.call();
    const int32_t indptr[] = {0, 1};
    call.rows.indptr = indptr;
    call.rows.positions = call.rows.positions.subspan(static_cast<size_t>(step), 1);
    call.queries = call.queries.rows({step, step + 1});
    std::vector<float> out(4 * 64);
    call.out = dense_view(out.data(), Dtype::f32, {1, 4, 64});
    engine_->attend(call, nullptr);
    for (size_t c = 0; c < out.size(); ++c)
      EXPECT_NEAR(out[c], all.out[static_cast<size_t>(step) * 256 + c], 1e-5);
  }
}

TEST_F(Segments, PlansAreReusedAndStaleOnesRefused) {
  Scene scene(*engine_, {.lengths = {300, 100}});
  const auto plan = engine_->plan(scene.shape, scene.rows(), scene.segments, {});
  EXPECT_EQ(scene.run(*engine_, {.plan = plan.get()}).out, scene.run(*engine_).out);
  Scene longer(*engine_, {.lengths = {300, 200}});
  EXPECT_EQ(code_of([&] { longer.run(*engine_, {.plan = plan.get()}); }), "E_STALE_PLAN");
  EXPECT_EQ(code_of([&] {
              scene.run(*engine_, {.split = {SplitPolicy::Kind::fixed, 32}, .plan = plan.get()});
            }),
            "E_STALE_PLAN");
  struct Other final : Plan {};
  const Other other;
  EXPECT_EQ(code_of([&] { scene.run(*engine_, {.plan = &other}); }), "E_STALE_PLAN");
}

TEST_F(Segments, HiddenRowsMayHoldAnything) {
  // Memory that was never written is NaN here; rows beyond `last` and dead rows must not be seen.
  Scene scene(*engine_, {.key_codec = "float32", .lengths = {70}, .pages = {.until_column = true}});
  for (const int64_t t : {3, 64, 69}) {
    std::vector<float> nan(128, std::numeric_limits<float>::quiet_NaN());
    scene.pages->write(*engine_, 0, 0, t, {nan});
    scene.pages->write(*engine_, 1, 0, t, {nan});
    scene.pages->set_int(0, scene.pages->layout.until, t, 10);
  }
  const Answer answer = scene.run(*engine_);
  for (const float x : answer.out) EXPECT_TRUE(std::isfinite(x));
}

TEST_F(Segments, WrongShapesAreRefused) {
  Scene scene(*engine_, {.lengths = {40}});
  const auto with = [&](const std::function<void(AttendCall&)>& change) {
    AttendCall call = scene.call();
    std::vector<float> out(4 * 64);
    call.out = dense_view(out.data(), Dtype::f32, {1, 4, 64});
    change(call);
    return code_of([&] { engine_->attend(call, nullptr); });
  };
  EXPECT_EQ(with([](AttendCall&) {}), "none");
  EXPECT_EQ(with([](AttendCall& c) { c.queries.sizes[2] = 32; }), "E_SHAPE");
  EXPECT_EQ(with([](AttendCall& c) { c.queries.dtype = Dtype::i32; }), "E_SHAPE");
  EXPECT_EQ(with([](AttendCall& c) { c.out.sizes[1] = 3; }), "E_SHAPE");
  EXPECT_EQ(with([](AttendCall& c) { c.level = Level::absorbed; }), "none");
  const float bias[4 * 3] = {};
  const TensorView entries = dense_view(bias, Dtype::f32, {4, 3});
  EXPECT_EQ(with([&](AttendCall& c) { c.distance_bias = entries; }), "E_SHAPE");
  scene.shape.distance_bias = 3;
  EXPECT_EQ(with([&](AttendCall& c) { c.distance_bias = entries; }), "none");
  EXPECT_EQ(with([](AttendCall& c) { c.distance_bias = {}; }), "E_SHAPE");
  EXPECT_EQ(with([&](AttendCall& c) { c.distance_bias = entries.rows({0, 3}); }), "E_SHAPE");
  EXPECT_EQ(with([&](AttendCall& c) { c.distance_bias = dense_view(bias, Dtype::f32, {3, 4}); }),
            "E_SHAPE");
  EXPECT_EQ(with([&](AttendCall& c) { c.distance_bias = dense_view(bias, Dtype::bf16, {4, 3}); }),
            "E_SHAPE");
  scene.shape.distance_bias = 0;
  std::vector<float> mass(10);
  EXPECT_EQ(with([&](AttendCall& c) { c.mass = dense_view(mass.data(), Dtype::f32, {5, 2}); }),
            "E_SHAPE");
}

}  // namespace
}  // namespace kvlab::test
