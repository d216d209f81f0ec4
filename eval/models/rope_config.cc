#include "eval/models/rope_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "core/error.h"

namespace kvlab {
namespace {

constexpr int64_t kMostPositions = int64_t{1} << 31;

/// What every type of scaling starts from.
struct Base {
  Fields scaling;  // rope_parameters, rope_scaling or an empty object
  double theta = 0;
  int dim = 0;  // rotated features of a head
  int64_t max_positions = 0;
  int64_t pretrained = 0;  // original_max_position_embeddings
};

double positive(const Fields& fields, std::string_view name) {
  const double value = fields.number(name);
  if (!(value > 0)) fields.refuse(name, "must be above 0");
  return value;
}

/// theta^(-2 i / dim)
std::vector<double> plain(const Base& base) {
  std::vector<double> inv_freq(static_cast<size_t>(base.dim / 2));
  for (size_t i = 0; i < inv_freq.size(); ++i)
    inv_freq[i] = std::pow(base.theta, -2.0 * static_cast<double>(i) / base.dim);
  return inv_freq;
}

Rope rope_of(const Base& base, std::vector<double> inv_freq, double attention_factor = 1.0) {
  return {.style = Rope::Style::half_split,
          .rotary_dim = base.dim,
          .inv_freq = std::move(inv_freq),
          .attention_factor = attention_factor};
}

Rope linear(const Base& base) {
  const double factor = positive(base.scaling, "factor");
  std::vector<double> inv_freq = plain(base);
  for (double& f : inv_freq) f /= factor;
  return rope_of(base, std::move(inv_freq));
}

/// Wavelengths above pretrained / low are stretched by `factor`, those below pretrained / high are
/// kept, those between are blended.
Rope llama3(const Base& base) {
  const double factor = positive(base.scaling, "factor");
  const double low = positive(base.scaling, "low_freq_factor");
  const double high = positive(base.scaling, "high_freq_factor");
  if (!(high > low)) base.scaling.refuse("high_freq_factor", "must be above `low_freq_factor`");
  std::vector<double> inv_freq = plain(base);
  for (double& f : inv_freq) {
    const double turns = static_cast<double>(base.pretrained) * f / (2 * std::numbers::pi);
    const double kept = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    f = (1 - kept) * f / factor + kept * f;
  }
  return rope_of(base, std::move(inv_freq));
}

double yarn_attention_factor(const Base& base, double factor) {
  const Fields& s = base.scaling;
  if (s.has("attention_factor")) return positive(s, "attention_factor");
  const auto grown = [factor](double mscale) {
    return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
  };
  const double mscale = s.number_or("mscale", 0), all = s.number_or("mscale_all_dim", 0);
  return mscale != 0 && all != 0 ? grown(mscale) / grown(all) : grown(1);
}

/// The (fractional) pair that makes `turns` turns within the pretrained length.
double yarn_pair(const Base& base, double turns) {
  const double length = static_cast<double>(base.pretrained);
  return base.dim * std::log(length / (turns * 2 * std::numbers::pi)) / (2 * std::log(base.theta));
}

double scaling_factor(const Base& base) {
  if (base.scaling.has("factor")) return positive(base.scaling, "factor");
  return static_cast<double>(base.max_positions) / static_cast<double>(base.pretrained);
}

/// Pairs that turn often keep their frequency, pairs that turn less than once are stretched by
/// `factor`, a linear ramp over the pair index lies between.
Rope yarn(const Base& base) {
  const Fields& s = base.scaling;
  const double factor = scaling_factor(base);
  double low = yarn_pair(base, s.has("beta_fast") ? positive(s, "beta_fast") : 32.0);
  double high = yarn_pair(base, s.has("beta_slow") ? positive(s, "beta_slow") : 1.0);
  if (s.boolean_or("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, base.dim - 1.0);
  if (low == high) high += 0.001;
  std::vector<double> inv_freq = plain(base);
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    const double stretched = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    inv_freq[i] *= stretched / factor + (1 - stretched);
  }
  return rope_of(base, std::move(inv_freq), yarn_attention_factor(base, factor));
}

RopeSetting longrope(const Base& base, LongRope which) {
  const bool is_long = which == LongRope::for_long;
  const std::vector<double> stretch =
      base.scaling.numbers(is_long ? "long_factor" : "short_factor", base.dim / 2);
  std::vector<double> inv_freq = plain(base);
  for (size_t i = 0; i < inv_freq.size(); ++i) {
    if (!(stretch[i] > 0))
      base.scaling.refuse(is_long ? "long_factor" : "short_factor", "must hold numbers above 0");
    inv_freq[i] /= stretch[i];
  }
  const double factor = scaling_factor(base), length = static_cast<double>(base.pretrained);
  double attention_factor = factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(length));
  if (base.scaling.has("attention_factor"))
    attention_factor = positive(base.scaling, "attention_factor");
  return {.rope = rope_of(base, std::move(inv_freq), attention_factor),
          .positions = is_long ? -1 : base.pretrained};
}

const Json& no_scaling() {
  static const Json empty = Json::object();
  return empty;
}

Fields scaling_of(const Fields& config) {
  for (const std::string_view name : {"rope_scaling", "rope_parameters"})
    if (config.has(name)) {
      Fields scaling = config.object(name);
      for (const auto& [key, value] : scaling.json().items())
        KVLAB_REQUIRE(!value.is_object(), "E_UNSUPPORTED", scaling.where(), ": `", printable(key),
                      "` gives one kind of layer frequencies of its own; kvlab reads one set for "
                      "all layers");
      if (!scaling.json().empty()) return scaling;
    }
  return {no_scaling(), config.where()};
}

int rotary_dim(const Fields& config, const Fields& scaling, const RopeRequest& request) {
  constexpr std::string_view kName = "partial_rotary_factor";
  const Fields& source = scaling.has(kName) ? scaling : config;
  const double share = source.number_or(kName, 1.0);
  if (!(share > 0 && share <= 1)) source.refuse(kName, "must be in (0, 1]");
  KVLAB_REQUIRE(share == 1 || request.partial, "E_UNSUPPORTED", source.where(), ": `", kName,
                "` is ", share, ", but this architecture rotates whole heads");
  const int dim = static_cast<int>(request.head_dim * share);
  KVLAB_REQUIRE(dim >= 2 && dim % 2 == 0, "E_FORMAT", source.where(), ": ", dim, " of ",
                request.head_dim,
                " features of a head are to be rotated, must be even and at "
                "least 2");
  return dim;
}

Base base_of(const Fields& config, const RopeRequest& request) {
  const Fields scaling = scaling_of(config);
  constexpr std::string_view kPretrained = "original_max_position_embeddings";
  const Fields& theta_source = scaling.has("rope_theta") ? scaling : config;
  const Fields& length_source = config.has(kPretrained) ? config : scaling;
  Base base{.scaling = scaling,
            .theta = theta_source.number_or("rope_theta", 10000.0),
            .dim = rotary_dim(config, scaling, request),
            .max_positions = request.max_positions,
            .pretrained =
                length_source.integer_or(kPretrained, request.max_positions, 2, kMostPositions)};
  if (!(base.theta > 1)) theta_source.refuse("rope_theta", "must be above 1");
  return base;
}

std::string type_of(const Fields& scaling, const RopeRequest& request) {
  std::string type = scaling.text_or("rope_type", scaling.text_or("type", "default"));
  if (request.yarn_is_longrope && (type == "su" || type == "yarn")) type = "longrope";
  return type;
}

RopeSetting scaled(const Base& base, const std::string& type, const RopeRequest& request) {
  if (type == "default") return {.rope = rope_of(base, plain(base))};
  if (type == "linear") return {.rope = linear(base)};
  if (type == "llama3") return {.rope = llama3(base)};
  if (type == "yarn") return {.rope = yarn(base)};
  if (type == "longrope") return longrope(base, request.longrope);
  fail("E_UNSUPPORTED", base.scaling.where(), ": rope type `", printable(type),
       "` is not supported; supported: default, linear, llama3, yarn, longrope",
       type == "dynamic" ? " (dynamic frequencies change under keys that are already stored)" : "");
}

}  // namespace

RopeSetting rope_setting(const Fields& config, const RopeRequest& request) {
  const Base base = base_of(config, request);
  const RopeSetting setting = scaled(base, type_of(base.scaling, request), request);
  const auto is_usable = [](double x) { return std::isfinite(x) && x >= 0; };
  KVLAB_REQUIRE(std::ranges::all_of(setting.rope.inv_freq, is_usable) &&
                    is_usable(setting.rope.attention_factor),
                "E_FORMAT", base.scaling.where(),
                ": the rotary frequencies these numbers give are not finite");
  return setting;
}

}  // namespace kvlab
