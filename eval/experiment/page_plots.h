#pragma once
// The data of the plots of one question.  Each is there only when the run measured it.

#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "eval/experiment/page_rows.h"

namespace kvlab {

using SamplesByRun = std::map<std::string, std::vector<const Json*>>;

/// In the order of the page.  Kinds and their members:
///   tradeoff  "metric", "unit", "better", "points": [{"row", "x", "y", "low", "high"}],
///             "front": [[x, y], ...], "dense": y;  x is the compression ratio
///   roofline  "points": [{"row", "x": bytes a step moves, "y": GB/s}], "ceiling": GB/s
///   speedup   "points": [{"row", "x": bound, "y": measured}]
///   needle    "lengths", "depths", "panels": [{"row", "scores": [length][depth] or null,
///             "counts"}]
///   distance  "unit", "buckets": [label], "bars": [{"row", "values", "low", "high"}]
///   layers    "metric", "unit", "lines": [{"row", "values": per layer}],
///             "panels": [{"row", "heads": [layer][head]}]
Json page_plots(const PageQuestion& question, const SamplesByRun& samples);

}  // namespace kvlab
