#pragma once
// Which mode each layer gets.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "methods/slim/analysis.h"

namespace kvlab::slim {

/// What the user asked for; see the schema in slim.cc.
struct Wish {
  enum class Target : u8 { strict, near, budget };
  Target target = Target::near;
  double budget = 0.5;         // of the dense bytes
  std::optional<Mode> mode{};  // every layer's, where it is possible
  int64_t side = 0;            // numbers of a side cache; 0: by the ladder
  bool falls_back = true;      // to `dense` where nothing meets the target; else SLIM_E_CONDITION
  bool least_error = false;
  Dtype stored = Dtype::bf16;
  int64_t calibration_length = 2048;

  explicit Wish(const Json& params);
};

/// A mode with the size of its side cache.
struct Step {
  Mode mode = Mode::dense;
  int64_t side = 0;
};

/// What is tried on a layer, cheapest first, `dense` not among it.
std::vector<Step> ladder(const Site& site, Dtype stored);
/// The default side cache of forced modes: e / 16, a multiple of 8.
int64_t usual_side(const Site& site);

/// The largest relative error of values a target allows where rounding does `rounding` to a dense
/// cache's: strict 2 c, near the larger of 2 c and 2^-9.
double allowed_error(Wish::Target target, double rounding);

/// The first step of the ladder within the target, `dense` or SLIM_E_CONDITION (gain, c G,
/// condition, best mode) when there is none; the forced mode if there is one.
Candidate choose(const Analysis& analysis, const Site& site, const Wish& wish);

/// One possibility of one layer, for a budget over all layers.
struct Offer {
  Step step{};
  double bytes = 0, error = 0;
};
/// Per layer the offer taken: least sum of squared errors within `bytes`, greedily by error lost
/// per byte, from each layer's cheapest on.  SLIM_E_BUDGET naming the least possible.
std::vector<size_t> within_budget(const std::vector<std::vector<Offer>>& layers, double bytes);

}  // namespace kvlab::slim
