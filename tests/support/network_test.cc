// The random network is one: what it hands to a cache is what its weights make of its hidden rows.
#include "tests/support/network.h"

#include <gtest/gtest.h>

#include "tests/support/refusal.h"

namespace kvlab::test {
namespace {

/// Row `position` of x [T, ...] in double.
std::vector<double> row_of(const TensorView& x, int64_t position) {
  const auto* row = reinterpret_cast<const float*>(x.at(position));
  return {row, row + x.numel() / x.size(0)};
}

std::vector<double> product(const TensorView& weight, const TensorView& bias,
                            const std::vector<double>& x) {
  std::vector<double> y;
  for (int64_t i = 0; i < weight.size(0); ++i) {
    const std::vector<double> row = row_of(weight, i);
    double sum = bias ? double{bias.as<float>()[i]} : 0;
    for (size_t j = 0; j < row.size(); ++j) sum += row[j] * x[j];
    y.push_back(sum);
  }
  return y;
}

TEST(Network, RowsAreProjectionsOfItsHiddenRows) {
  for (const bool bias : {false, true}) {
    const Network network({.heads = 6,
                           .kv_heads = 3,
                           .head_dim = 4,
                           .value_dim = 2,
                           .width = 10,
                           .key_bias = bias,
                           .value_bias = bias});
    const std::unique_ptr<ModelAccess> access = network.access();
    const std::vector<int32_t> tokens(7);
    int layers = 0;
    access->visit(tokens, [&](const Tap& tap) {
      ASSERT_EQ(tap.layer, layers++);
      ASSERT_EQ(tap.hidden.size(0), 7);
      const auto expect_projected = [&](const TensorView& rows, const std::string& role) {
        const std::vector<double> have = row_of(rows, 6);
        const std::vector<double> want =
            product(access->weight(role, tap.layer), access->weight(role + "_bias", tap.layer),
                    row_of(tap.hidden, 6));
        ASSERT_EQ(have.size(), want.size()) << role;
        for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(have[i], want[i], 1e-5) << role;
      };
      expect_projected(tap.keys_pre_rope, "key");
      expect_projected(tap.values, "value");
      expect_projected(tap.queries, "query");
      EXPECT_EQ(access->weight("output", tap.layer).size(0), 10);
      EXPECT_EQ(access->weight("output", tap.layer).size(1), 6 * 2);
      EXPECT_EQ(bool{access->weight("key_bias", tap.layer)}, bias);
      EXPECT_EQ(network.shape().layers[0].value_bias, bias);
    });
    EXPECT_EQ(layers, 2);
  }
}

TEST(Network, IsTheSameModelForEveryText) {
  const Network one({}), text({.text = 2}), weights({.seed = 2});
  EXPECT_EQ(one.shape().fingerprint, text.shape().fingerprint);
  EXPECT_EQ(one.weights(1).key, text.weights(1).key);
  EXPECT_NE(one.keys(0, 3)[0], text.keys(0, 3)[0]);
  EXPECT_NE(one.shape().fingerprint, weights.shape().fingerprint);
  EXPECT_EQ(one.hidden(0, 3)[0], weights.hidden(0, 3)[0]);
}

TEST(Network, ATextThatDiffersLateIsTheSameBefore) {
  const Network one({}), late({.differs_from = 9});
  EXPECT_EQ(one.keys(1, 8)[15], late.keys(1, 8)[15]);
  EXPECT_NE(one.keys(0, 9)[0], late.keys(0, 9)[0]);
}

TEST(Network, HasActivationsOfItsTextAndNoLoss) {
  const Network network({.tokens = 3});
  const std::vector<int32_t> tokens(4);
  EXPECT_REFUSED("E_SHAPE", "activations of 3 tokens", network.access()->visit(tokens, {}));
  EXPECT_REFUSED("E_UNSUPPORTED", "no loss", network.access()->loss(tokens, {}));
  EXPECT_REFUSED("E_UNKNOWN", "`keys`", network.access()->weight("keys", 0));
}

}  // namespace
}  // namespace kvlab::test
