#pragma once
// A task file: one JSON object that says what is asked of each document and how it is scored.  The
// keys of every type stand in eval/README.md.

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace kvlab::tasks::file {

/// The object, completed with the defaults of its type.  E_FORMAT: not JSON.  E_TASK_UNKNOWN_KEY
/// with the nearest key of its type.  E_CONFIG: a key that is missing, has a wrong type or does not
/// go with the type.
Json parse_task_file(std::string_view text, std::string_view name);

/// Metrics of the task file by their names in the catalogue, the first one the headline.  In a
/// multiple_choice file `acc` is choice_acc, in a loglikelihood file `acc` is is_greedy, `ppl`
/// target_ppl and `ll` target_ll.  E_UNKNOWN: a name that means nothing for the type; a `generate`
/// file may name any.
std::vector<std::string> metrics_of(const Json& file, std::string_view name);

}  // namespace kvlab::tasks::file
