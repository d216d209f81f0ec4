#include "methods/slim/prepare.h"

#include <ATen/ops/matmul.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/torch.h"
#include "methods/slim/choose.h"

namespace kvlab::slim {
namespace {

std::string percent(double share) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g %%", 100 * share);
  return text.data();
}
std::string three_digits(double x) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g", x);
  return text.data();
}

/// The dtype rows are stored in: what `store` says, else what the model's weights have.
Dtype stored_dtype(const Json& params, const ModelAccess& model) {
  const std::string name = params.at("store");
  return name.empty() ? model.weight("key", 0).dtype : dtype_named(name);
}

/// One layer with what was chosen for it.
struct Layered {
  Site site{};
  Candidate candidate{};
  std::optional<double> gain{}, condition{}, largest{};
  double rounding = 0;
  std::array<double, 2> quantised{};  // 8 and 4 bits
  bool is_measured = false;
};

/// Plain keys come from the model itself: their projection need not be kept twice.
Factors as_kept(Factors factors, const Site& site) {
  if (takes_keys(factors, site)) factors.rows = at::Tensor();
  return factors;
}

int64_t bytes_of(const Layered& one) {
  int64_t bytes = 0;
  std::vector<Tensor> tensors;
  put(as_kept(one.candidate.factors, one.site), 0, tensors);
  for (const Tensor& tensor : tensors) bytes += tensor.view.numel() * size_of(tensor.view.dtype);
  return bytes;
}

double bytes_per_token(const Layered& one, Dtype stored) {
  return one.candidate.share * static_cast<double>(one.site.dense_width() * size_of(stored));
}

/// Cached tokens from which on a layer takes less memory than a dense one, its maps counted and the
/// value projection it makes needless taken off.
double break_even_tokens(const Layered& one, Dtype stored) {
  const auto dense = static_cast<double>(one.site.dense_width() * size_of(stored));
  const double saved = dense - bytes_per_token(one, stored);
  const auto freed =
      static_cast<double>(one.site.model_width * one.site.value_width() * size_of(stored));
  const double maps = static_cast<double>(bytes_of(one)) - freed;
  return saved > 0 ? std::max(0.0, std::ceil(maps / saved)) : 0;
}

/// Query rows of one sequence from which on values are rebuilt row by row (option 1) instead of
/// mapped after the weighted sum (option 2): the engine's own count, w dv / (w - dv).
int64_t rebuilt_from(const Layered& one) {
  const int64_t w = one.candidate.factors.width(), dv = one.site.value_dim;
  return w > dv ? w * dv / (w - dv) + 1 : 0;
}

Json entry_of(const Layered& one, Dtype stored) {
  const Factors& f = one.candidate.factors;
  const bool is_dense = f.mode == Mode::dense;
  Json entry{{"layer", one.site.layer},
             {"mode", name_of(f.mode)},
             {"keys_are_slices", f.keys_are_slices},
             {"width", is_dense ? one.site.dense_width() : f.width()},
             {"side", is_dense ? 0 : f.side()},
             {"shares_rows_with", is_dense ? -1 : one.site.shares_rows_with},
             {"bytes_per_token", bytes_per_token(one, stored)},
             {"share_of_dense", one.candidate.share}};
  const auto add = [&entry](const char* name, const std::optional<double>& x) {
    entry[name] = x ? Json(*x) : Json();
  };
  add("gain", one.gain);
  add("condition", one.condition);
  add("largest_map_entry", one.largest);
  const auto measured = [&](double x) {
    return one.is_measured ? std::optional<double>(x) : std::nullopt;
  };
  add("rounding", measured(one.rounding));
  add("predicted_value_error", measured(one.candidate.predicted));
  add("value_error", measured(one.candidate.value_error));
  add("key_error", measured(one.candidate.key_error));
  add("value_error_int8", measured(one.quantised[0]));
  add("value_error_int4", measured(one.quantised[1]));
  entry["break_even_tokens"] = is_dense ? 0 : break_even_tokens(one, stored);
  entry["rebuilt_from_queries"] = is_dense ? 0 : rebuilt_from(one);
  return entry;
}

Json table_of(const Json& layers) {
  Json rows = Json::array();
  const auto cell = [](const Json& number) {
    return number.is_null() ? std::string("-") : three_digits(number.get<double>());
  };
  const auto error = [](const Json& number) {
    return number.is_null() ? std::string("-") : percent(number.get<double>());
  };
  for (const Json& one : layers)
    rows.push_back({one.at("layer").dump(), one.at("mode"), cell(one.at("gain")),
                    cell(one.at("condition")), error(one.at("predicted_value_error")),
                    error(one.at("value_error")), error(one.at("rounding")),
                    error(one.at("key_error")), error(one.at("value_error_int8")),
                    error(one.at("value_error_int4")), cell(one.at("bytes_per_token")),
                    percent(one.at("share_of_dense")), cell(one.at("break_even_tokens"))});
  return {
      {"columns",
       {"layer", "mode", "G", "cond", "V error, predicted", "V error", "V error, dense", "K error",
        "V error with int8", "V error with int4", "bytes/token", "of dense", "break-even tokens"}},
      {"rows", rows}};
}

Json notes_of(const std::vector<Layered>& all, Dtype stored, int64_t tokens) {
  Json notes = Json::array();
  notes.push_back("rows are stored in " + std::string(name_of(stored)) +
                  "; errors are relative root mean squares on the last quarter of " +
                  std::to_string(tokens) + " calibration tokens");
  int64_t from = 0, widest = 0;
  bool keeps_keys = false;
  for (const Layered& one : all) {
    const Factors& f = one.candidate.factors;
    if (f.mode == Mode::dense) continue;
    from = std::max(from, rebuilt_from(one));
    widest = std::max(widest, one.site.key_width());
    keeps_keys |= one.site.rotary != Rotary::none;
  }
  if (from > 0)
    notes.push_back("fewer than " + std::to_string(from) +
                    " queries of a sequence in a pass: the weighted sum of rows is mapped once "
                    "(option 2); from there on values are rebuilt row by row (option 1)");
  if (keeps_keys && tokens < 4 * widest)
    notes.push_back("calibrated on " + std::to_string(tokens) +
                    " tokens, fewer than 4 for each of " + std::to_string(widest) +
                    " numbers of a key row: errors may be underestimated");
  if (keeps_keys)
    notes.push_back(
        "quant after slim multiplies its error by G: compare `V error with int8` before you "
        "compose them; a dense cache in 8 bits takes the same bytes");
  return notes;
}

class Preparer {
 public:
  explicit Preparer(const Calibration& calibration)
      : calibration_(calibration),
        model_(*calibration.model),
        wish_(*calibration.params),
        sites_(sites_of(model_.shape())) {
    wish_.stored = stored_dtype(*calibration.params, model_);
    check_text();
    if (needs_text()) inputs_ = observe_inputs(calibration, wish_.calibration_length);
  }

  Artifact run() {
    std::vector<Layered> all;
    if (wish_.target == Wish::Target::budget && !wish_.mode)
      all = by_budget();
    else
      for (const Site& site : sites_) all.push_back(settle(site, nullptr));
    Json layers = Json::array();
    std::vector<Tensor> tensors;
    for (const Layered& one : all) {
      layers.push_back(entry_of(one, wish_.stored));
      if (one.candidate.factors.mode != Mode::dense)
        put(as_kept(one.candidate.factors, one.site), one.site.layer, tensors);
    }
    Json header{{"method", "slim"},
                {"method_params", *calibration_.params},
                {"model", model_.shape().fingerprint},
                {"store", name_of(wish_.stored)},
                {"layers", layers},
                {"table", table_of(layers)},
                {"notes", notes_of(all, wish_.stored, std::ssize(calibration_.tokens))}};
    return {std::move(header), std::move(tensors)};
  }

 private:
  bool needs_text() const {
    return std::ranges::any_of(sites_, [&](const Site& site) {
      return site.saves() && (site.rotary != Rotary::none || !calibration_.tokens.empty() ||
                              (wish_.mode && *wish_.mode != Mode::input));
    });
  }
  void check_text() const {
    const bool turns = std::ranges::any_of(
        sites_, [&](const Site& s) { return s.saves() && s.rotary != Rotary::none; });
    KVLAB_REQUIRE(!turns || !calibration_.tokens.empty(), "E_CONFIG",
                  "slim: keys are rotated (RoPE), so rows are keys and their error depends on real "
                  "inputs; give a calibration text with --text or --tokens");
  }

  Analysis analysis_of(const Site& site, const Weights& weights) const {
    const Inputs* inputs = inputs_.empty() ? nullptr : &inputs_[static_cast<size_t>(site.layer)];
    return Analysis({.site = site,
                     .weights = weights,
                     .inputs = inputs,
                     .stored = wish_.stored,
                     .least_error = wish_.least_error});
  }
  /// Cross layers share encoder rows, whatever the mode of the others: x is the only row that is
  /// the same for all of them.
  Wish wish_for(const Site& site) const {
    Wish wish = wish_;
    if (site.is_cross() && wish.mode && *wish.mode != Mode::dense) wish.mode = Mode::input;
    if (site.kind == Layer::Kind::tap) wish.mode = Mode::dense;
    return wish;
  }
  void check_range(const Site& site, const Candidate& made) const {
    if (wish_.stored != Dtype::f16 || inputs_.empty() || !made.factors.rows.defined()) return;
    const at::Tensor x = inputs_[static_cast<size_t>(site.layer)].held_out.to(at::kFloat);
    const double largest = at::matmul(x, made.factors.rows).abs().max().item<double>();
    KVLAB_REQUIRE(largest <= 32768, "SLIM_E_RANGE", "slim: layer ", site.layer, ": rows reach ",
                  largest,
                  " on the calibration text, float16 ends at 65504; set "
                  "`store` to bfloat16");
  }

  /// step: taken instead of what the target asks for.
  Layered settle(const Site& site, const Step* step) const {
    Layered one{.site = site};
    if (!site.saves() || site.kind == Layer::Kind::tap) return one;
    const Weights weights = weights_of(model_, site);
    const Analysis analysis = analysis_of(site, weights);
    one.candidate = step != nullptr ? analysis.make(step->mode, step->side)
                                    : choose(analysis, site, wish_for(site));
    check_range(site, one.candidate);
    one.is_measured = !inputs_.empty();
    one.rounding = analysis.rounding();
    if (analysis.has_base()) {
      one.gain = analysis.base().gain;
      one.condition = analysis.base().values.condition;
      one.largest = analysis.base().values.largest;
    }
    if (one.is_measured && one.candidate.factors.mode != Mode::dense)
      one.quantised = {analysis.quantised_error(one.candidate, 8),
                       analysis.quantised_error(one.candidate, 4)};
    if (calibration_.progress)
      calibration_.progress(0.5 + 0.5 * (site.layer + 1) / static_cast<double>(sites_.size()),
                            "layer " + std::to_string(site.layer) + ": " +
                                std::string(name_of(one.candidate.factors.mode)));
    return one;
  }

  std::vector<Layered> by_budget() const {
    std::vector<std::vector<Offer>> offers;
    double dense = 0;
    for (const Site& site : sites_) {
      const auto bytes = static_cast<double>(site.dense_width() * size_of(wish_.stored));
      dense += bytes;
      offers.push_back({{{Mode::dense}, bytes, 0}});
      if (!site.saves()) continue;
      const Weights weights = weights_of(model_, site);
      const Analysis analysis = analysis_of(site, weights);
      offers.back().front().error = analysis.rounding();
      for (const Step& step : ladder(site, wish_.stored)) {
        if (has_no_values(analysis, step)) continue;
        const Candidate made = analysis.make(step.mode, step.side);
        offers.back().push_back({step, made.share * bytes, made.value_error});
      }
    }
    const std::vector<size_t> taken = within_budget(offers, wish_.budget * dense);
    std::vector<Layered> all;
    for (size_t l = 0; l < sites_.size(); ++l)
      all.push_back(settle(sites_[l], &offers[l][taken[l]].step));
    return all;
  }
  static bool has_no_values(const Analysis& analysis, const Step& step) {
    return step.side == 0 && step.mode != Mode::input && analysis.has_base() &&
           analysis.base().values.residual > 1e-6;
  }

  const Calibration& calibration_;
  ModelAccess& model_;
  Wish wish_;
  std::vector<Site> sites_{};
  std::vector<Inputs> inputs_{};
};

}  // namespace

Artifact prepare(const Calibration& calibration) { return Preparer(calibration).run(); }

}  // namespace kvlab::slim
