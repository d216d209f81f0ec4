#pragma once
// Tables for people: one per question (model, task, matrix, seed), a method per row, dense first.

#include <string>
#include <vector>

#include "eval/experiment/report.h"
#include "eval/metric.h"

namespace kvlab {

/// Markdown.  The headline of a row is bold when it is the best of its table and its paired
/// interval against the next best excludes 0.  E_INCOMPARABLE when cells of one table were made
/// from other files or another dtype, unless `allow_mixed`; then a note under the table says what
/// differs.
std::string summary_markdown(const std::string& title, const FinishedCells& cells,
                             const Catalogue& catalogue, bool allow_mixed);

/// "## mqar (pairs 8)" and a line of what else the question is made of.
std::string heading_of(const FinishedCell& cell, const Catalogue& catalogue);

/// "mqar (pairs 8)": the task and those of its parameters that are not as they usually are.
std::string task_title(const TaskSpec& task, const Catalogue& catalogue);

/// Four digits that mean something.
std::string digits(double value);
/// "0.25 ± 0.1", "8.266 KiB"; no half width where those digits would not show it.
std::string value_text(const Estimate& estimate, std::string_view unit);
/// "+0.25 [+0.1, +0.4]", "–" without a difference.
std::string delta_text(const Estimate& estimate);

/// "1.25 MiB"
std::string readable_bytes(double bytes);

}  // namespace kvlab
