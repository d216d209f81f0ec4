#include "methods/slim/choose.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace kvlab::slim {
namespace {

Wish::Target target_named(const std::string& name) {
  if (name == "strict") return Wish::Target::strict;
  return name == "near" ? Wish::Target::near : Wish::Target::budget;
}

int64_t multiple_of_8(int64_t n) { return std::max<int64_t>((n + 7) / 8 * 8, 8); }

/// e / 64, e / 32, e / 16, e / 8, multiples of 8, each once; at most what values have.
std::vector<int64_t> sides(const Site& site) {
  std::vector<int64_t> all;
  for (const int64_t part : {64, 32, 16, 8}) {
    const int64_t side = std::min(multiple_of_8(site.key_width() / part), site.value_width());
    if (all.empty() || all.back() != side) all.push_back(side);
  }
  return all;
}

[[noreturn]] void refuse(const Analysis& analysis, const Site& site, const Candidate& best,
                         double allowed) {
  const Base& base = analysis.base();
  fail("SLIM_E_CONDITION", "slim: layer ", site.layer, ": no mode keeps values within ", allowed,
       " of their size: G = ", base.gain, ", c G = ", analysis.rounding() * base.gain,
       ", cond(F) = ", base.values.condition, "; the best is `", name_of(best.factors.mode),
       "` with ", best.value_error,
       "; allow `fallback` dense, ask for a milder `target`, or use quant");
}

Candidate forced(const Analysis& analysis, const Site& site, const Wish& wish) {
  const int64_t side = wish.side > 0 ? wish.side : usual_side(site);
  return analysis.make(*wish.mode, has_side(*wish.mode) ? side : 0);
}

}  // namespace

Wish::Wish(const Json& params)
    : target(target_named(params.at("target"))),
      budget(params.at("budget")),
      side(params.at("side")),
      falls_back(params.at("fallback") == "dense"),
      least_error(params.at("decoder") == "least_error"),
      calibration_length(params.at("calibration_length")) {
  if (params.at("mode") != "auto") mode = mode_named(params.at("mode").get<std::string>());
}

int64_t usual_side(const Site& site) {
  return std::min(multiple_of_8(site.key_width() / 16), site.value_width());
}

std::vector<Step> ladder(const Site& site, Dtype stored) {
  if (site.rotary == Rotary::none) return {{Mode::input}};
  if (!is_16_bit(stored)) return {{Mode::keys}};
  std::vector<Step> steps{{Mode::keys}, {Mode::keys_shaped}};
  for (const int64_t side : sides(site)) steps.push_back({Mode::keys_shaped_side, side});
  if (site.rotary == Rotary::full)
    for (const int64_t side : sides(site)) steps.push_back({Mode::keys_basis, side});
  steps.push_back({Mode::keys24});
  return steps;
}

double allowed_error(Wish::Target target, double rounding) {
  return target == Wish::Target::strict ? 2 * rounding
                                        : std::max(2 * rounding, std::ldexp(1.0, -9));
}

Candidate choose(const Analysis& analysis, const Site& site, const Wish& wish) {
  if (wish.mode) return forced(analysis, site, wish);
  if (site.rotary == Rotary::none) return analysis.make(Mode::input);
  const double allowed = allowed_error(wish.target, analysis.rounding());
  Candidate best;
  best.value_error = INFINITY;
  for (const Step& step : ladder(site, wish.stored)) {
    const bool impossible = !has_side(step.mode) && analysis.base().values.residual > 1e-6;
    if (impossible && !wish.least_error) continue;
    Candidate made = analysis.make(step.mode, step.side);
    if (made.share >= 1) continue;
    if (made.value_error <= allowed) return made;
    if (made.value_error < best.value_error) best = std::move(made);
  }
  if (!wish.falls_back) refuse(analysis, site, best, allowed);
  return analysis.make(Mode::dense);
}

std::vector<size_t> within_budget(const std::vector<std::vector<Offer>>& layers, double bytes) {
  std::vector<size_t> taken;
  double used = 0;
  for (const std::vector<Offer>& offers : layers) {
    const auto cheapest = std::ranges::min_element(offers, [](const Offer& a, const Offer& b) {
      return std::pair(a.bytes, a.error) < std::pair(b.bytes, b.error);
    });
    taken.push_back(static_cast<size_t>(cheapest - offers.begin()));
    used += cheapest->bytes;
  }
  KVLAB_REQUIRE(used <= bytes * (1 + 1e-9), "SLIM_E_BUDGET", "slim: a budget of ", bytes,
                " bytes per token; the cheapest modes of all layers take ", used,
                "; raise `budget`");
  for (;;) {
    double best_rate = 0;
    size_t best_layer = 0, best_offer = 0;
    for (size_t l = 0; l < layers.size(); ++l) {
      const Offer& now = layers[l][taken[l]];
      for (size_t o = 0; o < layers[l].size(); ++o) {
        const Offer& other = layers[l][o];
        const double more = other.bytes - now.bytes;
        const double gained = now.error * now.error - other.error * other.error;
        if (gained <= 0 || used + more > bytes * (1 + 1e-9)) continue;
        const double rate = gained / std::max(more, 1e-9);
        if (rate > best_rate) best_rate = rate, best_layer = l, best_offer = o;
      }
    }
    if (best_rate == 0) return taken;
    used += layers[best_layer][best_offer].bytes - layers[best_layer][taken[best_layer]].bytes;
    taken[best_layer] = best_offer;
  }
}

}  // namespace kvlab::slim
