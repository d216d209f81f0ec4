#pragma once
// record.json: what is needed to judge a run and to repeat it.

#include "eval/experiment/run.h"

namespace kvlab {

/// Everything but the cells: what ran, from what, where.  `previous`: the record of an earlier
/// session in the same directory, whose sessions are kept.
Json start_record(const Experiment& experiment, const std::vector<PlannedCell>& cells,
                  Planner& planner, const RunOptions& options, const std::optional<Json>& previous);
/// Adds what these cells showed: kernels, dtypes, warnings, NaN.
void record_observed(Json& record, const FinishedCells& cells);
/// Adds what is known at the end of a session.
void end_record(Json& record, const RunResult& result, double seconds);

/// {"version", "commit", "build", "compiler", "torch"} of this build.
Json describe_build();

}  // namespace kvlab
