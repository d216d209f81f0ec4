// Each example method against its own definition in double, whatever the passes.
#include "tests/example_methods/example_methods.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/network.h"
#include "tests/support/refusal.h"
#include "tests/support/scratch.h"

namespace kvlab::test {
namespace {

// Float32 rows of a dozen terms and a softmax over 24 rows against double: about 2^-18 of values of
// size 10.
constexpr double kBound = 1e-4;

Registry registry_with_examples() {
  Registry registry;
  register_all(registry);
  register_example_methods(registry);
  return registry;
}

std::vector<std::vector<int64_t>> splits(int64_t tokens) {
  return {
      {tokens}, std::vector<int64_t>(static_cast<size_t>(tokens), 1), {7, 1, tokens - 11, 1, 2}};
}

/// In one pass, token by token, and mixed.
void expect_equal(const Json& method, const NetworkConfig& config,
                  const std::function<Definition(const Network&)>& definition) {
  const Registry registry = registry_with_examples();
  const Network network(config);
  const auto want = defined(network, definition(network));
  for (const std::vector<int64_t>& lengths : splits(config.tokens))
    EXPECT_LE(distance(run(network, registry, method, lengths), want), kBound)
        << method.dump() << " in " << lengths.size() << " passes";
}

std::vector<NetworkConfig> networks() {
  return {{},
          {.layers = 1, .heads = 4, .kv_heads = 4, .head_dim = 8, .value_dim = 6, .seed = 2},
          {.layers = 3,
           .heads = 9,
           .kv_heads = 3,
           .head_dim = 6,
           .value_dim = 6,
           .rope = Rope::Style::interleaved,
           .seed = 3},
          {.layers = 2, .heads = 2, .kv_heads = 2, .rope = Rope::Style::none, .seed = 4},
          {.layers = 2, .heads = 4, .kv_heads = 2, .window_left = 5, .seed = 5}};
}

TEST(ExampleMethods, DenseIsTheDefinitionItself) {
  for (const NetworkConfig& config : networks())
    expect_equal("dense", config, [](const Network&) { return Definition{}; });
}

TEST(ExampleMethods, SlimLikeMapsAllHeadsKeysToTheValue) {
  for (const NetworkConfig& config : networks())
    expect_equal("slim_like", config, [](const Network& network) {
      return Definition{.value = [&](int layer, int head, int64_t position) {
        const Layer& l = network.shape().layers[static_cast<size_t>(layer)];
        const int64_t width = int64_t{l.num_kv_heads} * l.head_dim;
        std::vector<double> value(static_cast<size_t>(l.value_dim));
        for (int64_t i = 0; i < l.value_dim; ++i)
          for (int64_t j = 0; j < width; ++j)
            value[static_cast<size_t>(i)] +=
                static_cast<double>(map_entry(0, head * l.value_dim + i, j, 0.3)) *
                network.keys(layer, position)[j];
        return value;
      }};
    });
}

/// U_h D_g x for x the rows of the group of head h.
std::vector<double> through_latent(const float* x, int heads, int head, int64_t dim, int down,
                                   int up) {
  const int groups = heads % 2 == 0 ? heads / 2 : 1;
  const int64_t in = heads / groups * dim, rank = std::max<int64_t>(1, in / 2);
  const int64_t group = head / (heads / groups);
  std::vector<double> y(static_cast<size_t>(dim));
  for (int64_t r = 0; r < rank; ++r) {
    double latent = 0;
    for (int64_t j = 0; j < in; ++j)
      latent += static_cast<double>(map_entry(down, r, group * in + j, 0.5)) * x[group * in + j];
    for (int64_t i = 0; i < dim; ++i)
      y[static_cast<size_t>(i)] +=
          static_cast<double>(map_entry(up, head * dim + i, r, 0.4)) * latent;
  }
  return y;
}

TEST(ExampleMethods, PaluLikeReadsBothSidesThroughTheLatentOfTheGroup) {
  for (const NetworkConfig& config : networks())
    expect_equal("palu_like", config, [](const Network& network) {
      const auto side = [&](bool keys) {
        return [&network, keys](int layer, int head, int64_t position) {
          const Layer& l = network.shape().layers[static_cast<size_t>(layer)];
          return keys ? through_latent(network.keys(layer, position), l.num_kv_heads, head,
                                       l.head_dim, 1, 2)
                      : through_latent(network.values(layer, position), l.num_kv_heads, head,
                                       l.value_dim, 3, 4);
        };
      };
      return Definition{.key = side(true), .value = side(false)};
    });
}

TEST(ExampleMethods, GoldfinchLikeRebuildsEveryLayerFromTheRowsOfTheFirst) {
  for (const NetworkConfig& config : networks())
    expect_equal("goldfinch_like", config, [](const Network& network) {
      const auto side = [&](int what) {
        return [&network, what](int layer, int head, int64_t position) {
          const Layer& l = network.shape().layers[static_cast<size_t>(layer)];
          const int64_t dim = what == 5 ? l.head_dim : l.value_dim;
          std::vector<double> y(static_cast<size_t>(dim));
          for (int64_t c = 0; c < dim; ++c) {
            const int64_t i = head * dim + c;
            double sum = 0;
            for (int64_t j = 0; j < 8; ++j) {
              const double before = position == 0 ? 0 : network.hidden(0, position - 1)[j];
              sum += static_cast<double>(map_entry(what, 31 * layer + i, j, 0.6)) *
                     (network.hidden(0, position)[j] + before / 2);
            }
            y[static_cast<size_t>(c)] =
                sum * (1 + static_cast<double>(map_entry(7, network.id(position), i, 0.5)));
          }
          return y;
        };
      };
      return Definition{.key = side(5), .value = side(6)};
    });
}

TEST(ExampleMethods, GateLikeReadsSinkWindowAndWhatTheGateLeftOpen) {
  for (const NetworkConfig& config : networks())
    expect_equal("gate_like", config, [](const Network& network) {
      return Definition{.reads = [&](int layer, int head, int64_t q, int64_t j) {
        double gate = 0;
        for (int64_t i = 0; i < network.shape().width; ++i)
          gate += static_cast<double>(map_entry(8, 17 * layer + head, i, 1.0)) *
                  network.hidden(layer, j)[i];
        return j < 1 || j > q - 3 || gate > 0;
      }};
    });
}

TEST(ExampleMethods, SharedRowsOfAGateAreKeptWhileAnyHeadWantsThem) {
  for (const NetworkConfig& config : networks())
    expect_equal("slim_like+gate_like", config, [](const Network& network) {
      Definition definition;
      definition.value = [&](int layer, int head, int64_t position) {
        const Layer& l = network.shape().layers[static_cast<size_t>(layer)];
        std::vector<double> value(static_cast<size_t>(l.value_dim));
        for (int64_t i = 0; i < l.value_dim; ++i)
          for (int64_t j = 0; j < int64_t{l.num_kv_heads} * l.head_dim; ++j)
            value[static_cast<size_t>(i)] +=
                static_cast<double>(map_entry(0, head * l.value_dim + i, j, 0.3)) *
                network.keys(layer, position)[j];
        return value;
      };
      definition.reads = [&](int layer, int, int64_t q, int64_t j) {
        bool open = j < 1 || j > q - 3;
        for (int h = 0; h < network.shape().layers[static_cast<size_t>(layer)].num_kv_heads; ++h) {
          double gate = 0;
          for (int64_t i = 0; i < network.shape().width; ++i)
            gate += static_cast<double>(map_entry(8, 17 * layer + h, i, 1.0)) *
                    network.hidden(layer, j)[i];
          open |= gate > 0;
        }
        return open;
      };
      return definition;
    });
}

/// Mean and spread of one channel of the keys over the whole text.
std::pair<double, double> measured(const Network& network, int layer, int64_t channel) {
  double mean = 0, variance = 0;
  const auto n = static_cast<double>(network.tokens());
  for (int64_t j = 0; j < network.tokens(); ++j) mean += network.keys(layer, j)[channel] / n;
  for (int64_t j = 0; j < network.tokens(); ++j)
    variance += std::pow(network.keys(layer, j)[channel] - mean, 2) / n;
  return {mean, std::sqrt(variance)};
}

TEST(ExampleMethods, CentredLikeReadsKeysNoFartherFromTheMeanThanTheTextSaid) {
  const Registry registry = registry_with_examples();
  const Scratch folder;
  for (NetworkConfig config : networks())
    for (const int limit : {1, 2}) {
      config.key_bias = config.value_bias = limit == 2;
      Json method = {{"name", "centred_like"}, {"params", {{"limit", limit}}}};
      prepare(Network(config), registry, parse_methods(method, registry)[0])
          .save(folder / "prepared");
      method["artifact"] = (folder / "prepared").string();
      expect_equal(method, config, [&](const Network& network) {
        return Definition{.key = [&, limit](int layer, int head, int64_t position) {
          const int64_t d = network.shape().layers[static_cast<size_t>(layer)].head_dim;
          std::vector<double> key;
          for (int64_t c = head * d; c < (head + 1) * d; ++c) {
            const auto [mean, spread] = measured(network, layer, c);
            key.push_back(std::clamp<double>(network.keys(layer, position)[c],
                                             mean - limit * spread, mean + limit * spread));
          }
          return key;
        }};
      });
    }
}

TEST(ExampleMethods, CentredLikeRefusesTheArtifactOfAnotherModelOrATextOfNoSpread) {
  const Registry registry = registry_with_examples();
  const Scratch folder;
  const MethodSpec method = parse_methods("centred_like", registry)[0];
  prepare(Network({}), registry, method).save(folder / "prepared");
  const Json spec{{"name", "centred_like"}, {"artifact", (folder / "prepared").string()}};
  EXPECT_NO_THROW(run(Network({.text = 2}), registry, spec, {24})) << "the same model";
  EXPECT_REFUSED("E_STALE_ARTIFACT", "was made for model",
                 run(Network({.seed = 2}), registry, spec, {24}));
  EXPECT_REFUSED("E_CONFIG", "run `kvlab prepare`",
                 run(Network({}), registry, "centred_like", {24}));
  EXPECT_REFUSED("E_CONFIG", "a spread needs two tokens",
                 prepare(Network({.tokens = 1}), registry, method));
}

}  // namespace
}  // namespace kvlab::test
