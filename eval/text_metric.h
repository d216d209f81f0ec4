#pragma once
// What metrics of generated text share.

#include <string>
#include <string_view>

#include "eval/metric.h"

namespace kvlab {

/// How well a text answers one reference, 0..1.  `meta` is the sample's.
using TextScore = double (*)(std::string_view text, std::string_view reference, const Json& meta);

/// Of each turn the best over its references; a sample with several turns adds as many.
Metric text_metric(std::string name, std::string doc, TextScore score);

/// 2PR / (P + R) of a match of so many elements between texts of so many; 0 where nothing matches.
double f1(size_t matched, size_t predicted, size_t wanted);

}  // namespace kvlab
