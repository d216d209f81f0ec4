// What quant stores is within its bound of what it was given, takes the bytes its README says, and
// is what the next query reads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/network.h"
#include "tests/support/refusal.h"

namespace kvlab::test {
namespace {

constexpr int64_t kTokens = 80, kDim = 64, kHeads = 2;

/// A cache of one method that has seen the whole text, the last token in a pass of its own.
struct Filled {
  Network network{{.layers = 1,
                   .heads = 4,
                   .kv_heads = kHeads,
                   .head_dim = kDim,
                   .value_dim = kDim,
                   .tokens = kTokens}};
  Registry registry{};
  std::unique_ptr<Cache> cache{};
  SeqId sequence{};
  Outputs out{};
  std::vector<float> keys = std::vector<float>(kTokens * kHeads * kDim), values = keys;

  explicit Filled(const Json& params) {
    register_all(registry);
    const Json method = {{"name", "quant"}, {"params", params}};
    cache = make_cache(network, registry, method);
    sequence = cache->add_sequence();
    network.pass(*cache, sequence, {0, kTokens - 1}, ReadPolicy::stored, ChunkEnd::prompt, out);
    network.pass(*cache, sequence, {kTokens - 1, kTokens}, ReadPolicy::stored, ChunkEnd::step, out);
    const auto view = [](std::vector<float>& rows) {
      return dense_view(rows.data(), Dtype::f32, {kTokens, kHeads, kDim});
    };
    cache->materialise(0, sequence, {0, kTokens}, view(keys), view(values));
  }
  float key_error(int64_t position) const { return error(keys, position, network.keys(0, 0)); }
  float value_error(int64_t position) const {
    return error(values, position, network.values(0, 0));
  }

 private:
  /// Root mean square over the features of a head, the largest of all heads: what rotations (RoPE,
  /// Hadamard) leave as it is.
  static float error(const std::vector<float>& rows, int64_t position, const float* given) {
    double most = 0;
    for (int64_t head = position * kHeads; head < (position + 1) * kHeads; ++head) {
      double sum = 0;
      for (int64_t i = head * kDim; i < (head + 1) * kDim; ++i)
        sum += std::pow(double{rows[static_cast<size_t>(i)]} - given[i], 2);
      most = std::max(most, std::sqrt(sum / kDim));
    }
    return static_cast<float>(most);
  }
};

/// Half a step of the widest group there can be: numbers of a standard normal stay below 5, a
/// rotation by an orthonormal matrix keeps them so.  0.1 % for the scale's rounding.
float bound(int bits) { return 1.001F * 10.0F / static_cast<float>((1 << bits) - 1) / 2; }

std::vector<Json> codings() {
  std::vector<Json> all;
  for (const int bits : {8, 4, 2})
    for (const char* axis : {"token", "channel"})
      for (const bool rotate : {false, true})
        all.push_back({{"bits", bits}, {"axis", axis}, {"rotate", rotate}});
  all.push_back({{"group", 0}});
  all.push_back({{"pre_rope", true}});
  all.push_back({{"residual", 20}});
  all.push_back({{"first", 3}, {"residual", 1}});
  all.push_back({{"bits", 2}, {"key", {{"axis", "channel"}}}, {"residual", 16}});
  all.push_back({{"key", {{"bits", 8}}}, {"value", {{"bits", 4}, {"rotate", true}}}});
  return all;
}

TEST(Quant, ReadsBackWithinHalfAStep) {
  for (const Json& params : codings()) {
    const Filled filled(params);
    const int bits = params.value("bits", 4);
    const double keys = bound(params.value("/key/bits"_json_pointer, bits));
    for (int64_t position = 0; position < kTokens; ++position) {
      EXPECT_LE(filled.key_error(position), keys + 1e-5) << params << position;
      EXPECT_LE(filled.value_error(position), bound(bits) + 1e-5) << params << position;
    }
    EXPECT_GT(filled.key_error(30), 1e-4) << params << ": nothing was coded";
  }
}

TEST(Quant, TheNextQueryReadsWhatIsStored) {
  for (const Json& params : codings()) {
    const Filled filled(params);
    const auto row = [](const std::vector<float>& rows) {
      return [&rows](int, int head, int64_t position) {
        const float* at = rows.data() + (position * kHeads + head) * kDim;
        return std::vector<double>(at, at + kDim);
      };
    };
    const auto want =
        defined(filled.network, {.key = row(filled.keys), .value = row(filled.values)});
    const size_t width = want[0].size() / kTokens;
    for (size_t i = want[0].size() - width; i < want[0].size(); ++i)
      EXPECT_NEAR(filled.out[0][i], want[0][i], 2e-3) << params;  // queries in bfloat16 at most
  }
}

TEST(Quant, ResidualAndFirstTokensStayAsTheyCame) {
  const Filled filled({{"residual", 20}, {"first", 3}});
  for (int64_t position = 0; position < kTokens; ++position) {
    const bool raw = position < 3 || position > kTokens - 1 - 20;
    EXPECT_EQ(filled.value_error(position) == 0, raw) << position;
  }
}

TEST(Quant, ChannelsWaitForTheirTile) {
  const Filled filled({{"axis", "channel"}, {"group", 32}});
  for (int64_t position = 0; position < kTokens; ++position)
    EXPECT_EQ(filled.value_error(position) == 0, position >= 64) << position;
}

TEST(Quant, TakesTheBytesOfCodesAndScales) {
  for (const int bits : {8, 4, 2})
    for (const int group : {32, 64, 0}) {
      const Filled filled({{"bits", bits}, {"group", group}});
      const int64_t per_side = kDim * bits / 8 + 4 * (group == 0 ? 1 : kDim / group);
      EXPECT_EQ(filled.cache->bytes().cache_bytes(), kTokens * kHeads * 2 * per_side)
          << bits << " bits, group " << group;
      EXPECT_EQ(filled.cache->bytes().payload, kTokens * kHeads * 2 * kDim * bits / 8);
    }
}

TEST(Quant, RefusesAChannelOfNoTokens) {
  EXPECT_REFUSED("E_CONFIG", "`axis` channel with `group` 0",
                 Filled({{"axis", "channel"}, {"group", 0}}));
}

}  // namespace
}  // namespace kvlab::test
