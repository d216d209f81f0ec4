// How far each layer's stored rows and outputs lie from the dense run's (LayerFidelity), and what
// of a dense run's attention went to rows that are gone.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "eval/catalogue.h"

namespace kvlab::metrics::layers {
namespace {

using Numbers = std::vector<double> LayerFidelity::*;
using Sum = double LayerFidelity::*;

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// What every layer of every sample says, one unit per sample.
auto pooled_shares(Sum error, Sum norm) {
  return [=](const Outcome& sample, const Outcome*) -> std::vector<Share> {
    Share all{0, 0};
    for (const LayerFidelity& layer : sample.layers) {
      all.sum += layer.*error;
      all.weight += layer.*norm;
    }
    if (all.weight == 0) return {};
    return {all};
  };
}

auto mean_shares(Numbers numbers) {
  return [=](const Outcome& sample, const Outcome*) -> std::vector<Share> {
    Share all{0, 0};
    for (const LayerFidelity& layer : sample.layers)
      for (const double x : layer.*numbers) {
        all.sum += x;
        all.weight += 1;
      }
    if (all.weight == 0) return {};
    return {all};
  };
}

auto sample_units(Numbers numbers) {
  return [=](const Outcome& sample) {
    std::vector<double> all;
    for (const LayerFidelity& layer : sample.layers)
      all.insert(all.end(), (layer.*numbers).begin(), (layer.*numbers).end());
    return std::vector<std::vector<double>>{all};
  };
}

auto largest(Sum number, Sum present) {
  return [=](const Outcome& sample) {
    std::vector<double> all;
    for (const LayerFidelity& layer : sample.layers)
      if (layer.*present > 0) all.push_back(layer.*number);
    return std::vector<std::vector<double>>{all};
  };
}

std::vector<Share> retained(const Outcome& sample, const Outcome*) {
  Share all{0, 0};
  for (const LayerFidelity& layer : sample.layers)
    for (const int64_t rows : layer.retained) {
      all.sum += static_cast<double>(rows);
      all.weight += 1;
    }
  if (all.weight == 0) return {};
  return {all};
}

/// One entry per layer: what `read` makes of that layer of all samples; null where it makes
/// nothing.
template <class Read>
auto layer_by_layer(Read read) {
  return [read](const CellOutcome& cell) {
    Json all;
    for (size_t i = 0; !cell.samples.empty() && i < cell.samples.front().layers.size(); ++i) {
      std::vector<const LayerFidelity*> of;
      for (const Outcome& sample : cell.samples)
        if (!sample.is_nan && i < sample.layers.size()) of.push_back(&sample.layers[i]);
      all.push_back(read(of));
    }
    return all;
  };
}
using Of = const std::vector<const LayerFidelity*>&;

auto relative_error(Sum error, Sum norm) {
  return layer_by_layer([=](Of of) {
    double e = 0, n = 0;
    for (const LayerFidelity* layer : of) e += layer->*error, n += layer->*norm;
    return n > 0 ? Json(std::sqrt(e / n)) : Json();
  });
}

auto layer_mean(Numbers numbers, double (*finish)(double)) {
  return layer_by_layer([=](Of of) {
    std::vector<double> all;
    for (const LayerFidelity* layer : of)
      all.insert(all.end(), (layer->*numbers).begin(), (layer->*numbers).end());
    const double value = all.empty() ? NAN : finish(mean(all));
    return std::isfinite(value) ? Json(value) : Json();
  });
}

/// A mean over samples for each head.
template <class Member>
auto head_means(Member member) {
  return layer_by_layer([member](Of of) {
    std::vector<double> sums;
    for (const LayerFidelity* layer : of) {
      sums.resize(std::max(sums.size(), (layer->*member).size()));
      for (size_t h = 0; h < (layer->*member).size(); ++h)
        sums[h] += static_cast<double>((layer->*member)[h]) / static_cast<double>(of.size());
    }
    return sums.empty() ? Json() : Json(sums);
  });
}

double same(double x) { return x; }
double root(double x) { return std::sqrt(x); }
double decibel(double nmse) { return -10 * std::log10(nmse); }
double last_percent(std::span<double> values) { return quantile(values, 0.99); }
double first_percent(std::span<double> values) { return quantile(values, 0.01); }
double most(std::span<double> values) { return *std::ranges::max_element(values); }

/// Nothing where attention gave exactly what the dense run gave: there is no ratio then.
std::vector<Share> noisy(const Outcome& sample, const Outcome*) {
  std::vector<Share> shares = mean_shares(&LayerFidelity::nmse)(sample, nullptr);
  if (!shares.empty() && shares[0].sum == 0) shares.clear();
  return shares;
}

void add_rows(Catalogue& catalogue) {
  const auto add = [&](const char* name, const char* doc, Sum error, Sum norm) {
    catalogue.add(Metric{.name = name,
                         .doc = doc,
                         .better = Better::lower,
                         .where_measured = true,
                         .shares = pooled_shares(error, norm),
                         .finish = root,
                         .by_layer = relative_error(error, norm)});
  };
  add("k_rel_err", "stored keys after the prefill: norm of the error over the norm",
      &LayerFidelity::key_error, &LayerFidelity::key_norm);
  add("v_rel_err", "the same of values", &LayerFidelity::value_error, &LayerFidelity::value_norm);
  catalogue.add(Metric{.name = "k_max_abs",
                       .doc = "largest error of a key feature",
                       .better = Better::lower,
                       .where_measured = true,
                       .units = largest(&LayerFidelity::key_max_abs, &LayerFidelity::key_norm),
                       .reduce = most});
  catalogue.add(Metric{.name = "score_max_abs",
                       .unit = "logit",
                       .doc = "largest error of an attention logit of the first query",
                       .better = Better::lower,
                       .where_measured = true,
                       .units = largest(&LayerFidelity::score_max_abs, &LayerFidelity::key_norm),
                       .reduce = most});
}

void add_outputs(Catalogue& catalogue) {
  const auto shares = [&](const char* name, const char* unit, Better better, const char* doc,
                          auto read, Finish finish, auto by_layer) {
    catalogue.add(Metric{.name = name,
                         .unit = unit,
                         .doc = doc,
                         .better = better,
                         .where_measured = true,
                         .shares = read,
                         .finish = finish,
                         .by_layer = by_layer});
  };
  const auto units = [&](const char* name, Better better, const char* doc, Numbers of,
                         Reduce reduce) {
    catalogue.add(Metric{.name = name,
                         .doc = doc,
                         .better = better,
                         .where_measured = true,
                         .units = sample_units(of),
                         .reduce = reduce});
  };
  using enum Better;
  const Numbers nmse = &LayerFidelity::nmse, cosine = &LayerFidelity::cosine;
  shares("attn_cos", "", higher, "cosine of a layer's attention output with the dense run's, mean",
         mean_shares(cosine), nullptr, layer_mean(cosine, same));
  units("attn_cos_p1", higher, "its 1st percentile", cosine, first_percent);
  shares("attn_nmse", "", lower, "squared error of attention output over its square, mean",
         mean_shares(nmse), nullptr, head_means(&LayerFidelity::head_nmse));
  units("attn_nmse_p99", lower, "its 99th percentile", nmse, last_percent);
  units("attn_nmse_max", lower, "its largest value", nmse, most);
  shares("attn_snr_db", "dB", higher, "-10 log10 of attn_nmse", noisy, decibel,
         layer_mean(nmse, decibel));
  shares("attn_mass_lost", "fraction", lower,
         "dense attention of the first query after the prefill to positions that are gone",
         mean_shares(&LayerFidelity::mass_lost), nullptr, head_means(&LayerFidelity::mass_lost));
  shares("retained_tokens", "token", neither, "rows a kv head holds after the prefill, mean",
         retained, nullptr, head_means(&LayerFidelity::retained));
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  add_rows(catalogue);
  add_outputs(catalogue);
}

}  // namespace kvlab::metrics::layers
