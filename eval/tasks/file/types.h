#pragma once
// The five types of task files: from a source to samples.

#include "eval/tasks/file/prompt.h"

namespace kvlab::tasks::file {

/// What a type makes, the work complete but for `count` and `sample`.
struct Made {
  Work work{};
  std::vector<Sample> samples{};
};

/// Also of `loglikelihood`, a question with one choice.
Made make_multiple_choice(const Source& source, const TaskSetup& setup);
Made make_perplexity(const Source& source, const TaskSetup& setup);
Made make_generate(const Source& source, const TaskSetup& setup);
Made make_tokens(const Source& source, const TaskSetup& setup);

}  // namespace kvlab::tasks::file
