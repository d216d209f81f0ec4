#include "eval/experiment/page_plots.h"

#include <algorithm>
#include <array>
#include <set>

#include "eval/pareto.h"

namespace kvlab {
namespace {

Json number_at(const Json& line, const char* key, size_t place) {
  return line.contains(key) ? line.at(key).at(place) : Json();
}

/// A metric over the compression ratio, with the front of those that no other row beats.
void add_tradeoff(Json& plots, const PageQuestion& question, const std::string& metric,
                  const char* title, bool higher_is_better) {
  Json points = Json::array();
  std::vector<Tradeoff> tradeoffs;
  Json dense;
  for (size_t i = 0; i < question.rows.size(); ++i) {
    const PageRow& row = question.rows[i];
    const auto cr = row.value("cr"), y = row.value(metric);
    if (!cr || !y || *cr <= 0) continue;
    const Json& line = *row.find(metric);
    points.push_back({{"row", i},
                      {"x", *cr},
                      {"y", *y},
                      {"low", number_at(line, "ci", 0)},
                      {"high", number_at(line, "ci", 1)}});
    tradeoffs.push_back({*cr, higher_is_better ? *y : -*y});
    if (row.is_dense) dense = *y;
  }
  if (points.size() < 2) return;
  Json front = Json::array();
  for (const size_t i : pareto_front(tradeoffs)) {
    const Json& point = points[i];
    front.push_back({point.at("x"), point.at("y")});
  }
  const Json& any = *question.rows[points[0].at("row").get<size_t>()].find(metric);
  plots.push_back({{"kind", "tradeoff"},
                   {"title", title},
                   {"metric", metric},
                   {"unit", any.at("unit")},
                   {"better", higher_is_better ? "higher" : "lower"},
                   {"points", std::move(points)},
                   {"front", std::move(front)},
                   {"dense", std::move(dense)}});
}

struct Mean {
  double sum = 0;
  int64_t count = 0;
};
using Grid = std::map<std::pair<double, double>, Mean>;  // by length and depth

/// Scores of samples that say how deep their needle lay.
Grid needle_grid(const std::vector<const Json*>& samples) {
  Grid grid;
  for (const Json* sample : samples) {
    const Json meta = sample->value("meta", Json::object());
    if (!meta.contains("depth") || !sample->contains("score")) continue;
    const double length = meta.contains("length") ? meta.at("length") : sample->at("n_tokens");
    Mean& mean = grid[{length, meta.at("depth")}];
    mean.sum += sample->at("score").get<double>();
    ++mean.count;
  }
  return grid;
}

Json needle_panel(size_t row, const Grid& grid, const std::set<double>& lengths,
                  const std::set<double>& depths) {
  Json scores = Json::array(), counts = Json::array();
  for (const double length : lengths) {
    Json score = Json::array(), count = Json::array();
    for (const double depth : depths) {
      const auto cell = grid.find({length, depth});
      const Mean mean = cell == grid.end() ? Mean{} : cell->second;
      score.push_back(mean.count > 0 ? Json(mean.sum / static_cast<double>(mean.count)) : Json());
      count.push_back(mean.count);
    }
    scores.push_back(std::move(score));
    counts.push_back(std::move(count));
  }
  return {{"row", row}, {"scores", std::move(scores)}, {"counts", std::move(counts)}};
}

void add_needle(Json& plots, const PageQuestion& question, const SamplesByRun& samples) {
  std::map<size_t, Grid> grids;
  std::set<double> lengths, depths;
  for (size_t i = 0; i < question.rows.size(); ++i) {
    const auto own = samples.find(question.rows[i].run);
    if (own == samples.end()) continue;
    Grid grid = needle_grid(own->second);
    for (const auto& [place, mean] : grid) {
      lengths.insert(place.first);
      depths.insert(place.second);
    }
    if (!grid.empty()) grids[i] = std::move(grid);
  }
  if (grids.empty()) return;
  Json panels = Json::array();
  for (const auto& [row, grid] : grids) panels.push_back(needle_panel(row, grid, lengths, depths));
  plots.push_back({{"kind", "needle"},
                   {"title", "Needle by length and depth"},
                   {"metric", question.headline()},
                   {"lengths", lengths},
                   {"depths", depths},
                   {"panels", std::move(panels)}});
}

struct Bucket {
  const char *suffix, *label;
};
constexpr std::array<Bucket, 6> kBuckets{{{"d1_8", "1–8"},
                                          {"d9_32", "9–32"},
                                          {"d33_128", "33–128"},
                                          {"d129_512", "129–512"},
                                          {"d513_2048", "513–2048"},
                                          {"d2049", "> 2048"}}};

const Json* bucket_line(const PageRow& row, const Bucket& bucket) {
  return row.find(std::string("delta_nll_") + bucket.suffix);
}

void add_distance(Json& plots, const PageQuestion& question) {
  std::vector<const Bucket*> used;
  for (const Bucket& bucket : kBuckets)
    for (const PageRow& row : question.rows)
      if (!row.is_dense && bucket_line(row, bucket) != nullptr) {
        used.push_back(&bucket);
        break;
      }
  if (used.empty()) return;
  Json bars = Json::array(), labels = Json::array();
  for (const Bucket* bucket : used) labels.push_back(bucket->label);
  for (size_t i = 0; i < question.rows.size(); ++i) {
    if (question.rows[i].is_dense) continue;
    Json values = Json::array(), low = Json::array(), high = Json::array();
    bool any = false;
    for (const Bucket* bucket : used) {
      const Json* line = bucket_line(question.rows[i], *bucket);
      any = any || line != nullptr;
      values.push_back(line == nullptr ? Json() : line->value("value", Json()));
      low.push_back(line == nullptr ? Json() : number_at(*line, "ci", 0));
      high.push_back(line == nullptr ? Json() : number_at(*line, "ci", 1));
    }
    if (any) bars.push_back({{"row", i}, {"values", values}, {"low", low}, {"high", high}});
  }
  plots.push_back({{"kind", "distance"},
                   {"title", "NLL lost by distance since the last compression"},
                   {"metric", "delta_nll"},
                   {"unit", "nat/token"},
                   {"buckets", std::move(labels)},
                   {"bars", std::move(bars)}});
}

/// null where nothing was measured: a layer without heads, a number that is not finite.
Json mean_of(const Json& layer) {
  if (!layer.is_array()) return layer.is_number() ? layer : Json();
  double sum = 0;
  int64_t count = 0;
  for (const Json& head : layer)
    if (head.is_number()) {
      sum += head.get<double>();
      ++count;
    }
  return count > 0 ? Json(sum / static_cast<double>(count)) : Json();
}

/// A plot per metric that was measured layer by layer.
void add_layers(Json& plots, const PageQuestion& question) {
  std::vector<std::string> metrics;
  for (const PageRow& row : question.rows)
    for (const Json* line : row.lines) {
      const std::string metric = line->at("metric");
      if (!line->contains("by_layer") || line->at("by_layer").empty()) continue;
      if (std::ranges::find(metrics, metric) == metrics.end()) metrics.push_back(metric);
    }
  for (const std::string& metric : metrics) {
    Json lines = Json::array(), panels = Json::array(), unit;
    for (size_t i = 0; i < question.rows.size(); ++i) {
      const Json* line = question.rows[i].find(metric);
      if (line == nullptr || !line->contains("by_layer")) continue;
      const Json& layers = line->at("by_layer");
      unit = line->at("unit");
      Json values = Json::array();
      for (const Json& layer : layers) values.push_back(mean_of(layer));
      lines.push_back({{"row", i}, {"values", std::move(values)}});
      if (std::ranges::any_of(layers, [](const Json& layer) { return layer.is_array(); }))
        panels.push_back({{"row", i}, {"heads", layers}});
    }
    plots.push_back({{"kind", "layers"},
                     {"title", metric + " by layer"},
                     {"metric", metric},
                     {"unit", std::move(unit)},
                     {"lines", std::move(lines)},
                     {"panels", std::move(panels)}});
  }
}

/// What attention reads in a step of decoding and how fast: attn_gb_s * attn_us is bytes / 1000.
/// The ceiling was measured in the same process; bw_frac is the share of it that was reached.
void add_roofline(Json& plots, const PageQuestion& question) {
  Json points = Json::array(), ceiling;
  for (size_t i = 0; i < question.rows.size(); ++i) {
    const PageRow& row = question.rows[i];
    const auto bytes = row.value("bytes_moved"), rate = row.value("attn_gb_s");
    if (!bytes || !rate || *bytes <= 0) continue;
    points.push_back({{"row", i}, {"x", *bytes}, {"y", *rate}});
    const auto measured = row.value("read_gb_s"), share = row.value("bw_frac");
    if (!ceiling.is_null()) continue;
    if (measured) ceiling = *measured;
    if (!measured && share && *share > 0) ceiling = *rate / *share;
  }
  if (points.empty()) return;
  plots.push_back({{"kind", "roofline"},
                   {"title", "Roofline: the bandwidth that attention reaches"},
                   {"points", std::move(points)},
                   {"ceiling", std::move(ceiling)}});
}

void add_speedup(Json& plots, const PageQuestion& question) {
  Json points = Json::array();
  for (size_t i = 0; i < question.rows.size(); ++i) {
    const auto bound = question.rows[i].value("speedup_roofline");
    const auto measured = question.rows[i].value("attn_speedup");
    if (bound && measured) points.push_back({{"row", i}, {"x", *bound}, {"y", *measured}});
  }
  if (points.empty()) return;
  plots.push_back({{"kind", "speedup"},
                   {"title", "Attention's speed-up, measured and as bandwidth bounds it"},
                   {"points", std::move(points)}});
}

}  // namespace

Json page_plots(const PageQuestion& question, const SamplesByRun& samples) {
  Json plots = Json::array();
  const std::string headline = question.headline();
  add_tradeoff(plots, question, headline, "Score and compression", question.higher_is_better());
  if (headline != "kl") add_tradeoff(plots, question, "kl", "KL divergence and compression", false);
  add_tradeoff(plots, question, "tpot_ms", "Decode latency and compression", false);
  add_roofline(plots, question);
  add_speedup(plots, question);
  add_needle(plots, question, samples);  // from here on they are as wide as the page
  add_distance(plots, question);
  add_layers(plots, question);
  return plots;
}

}  // namespace kvlab
