#pragma once
// Continuing token sequences, many at once.

#include <cstdint>
#include <span>
#include <vector>

#include "eval/model.h"
#include "eval/sampling.h"

namespace kvlab {

struct GenerateOptions {
  int64_t max_new = 0;          // tokens at most, per sequence
  int64_t prefill_chunk = 512;  // tokens of a sequence per pass of its prompt; 0: all
  ReadPolicy read = ReadPolicy::raw_chunk;
  /// Which logits choose the first token: those of the pass that ends the prompt, where a method
  /// may not have compressed anything yet, or those of the prompt's last token fed alone after the
  /// rest was compressed (specification: evaluation, section 7).
  enum class First : unsigned char { of_prompt, of_cache } first = First::of_prompt;
  Sampling sampling{};
  std::vector<int32_t> end_tokens{};  // the model's and the task's
};

/// What is to be continued: tokens after those the sequence already holds.
struct Prompt {
  SeqId sequence{};
  std::span<const int32_t> tokens{};  // at least one
};

struct Generated {
  std::vector<int32_t> tokens{};  // without the end token
  int32_t end_token = -1;         // that ended it; -1: max_new did
};

/// Continues all prompts, each as it would be alone: the prompts' last chunks share one pass, whose
/// end is the end of every prompt, and a sequence leaves the batch when it ends.  The token chosen
/// last is not fed: a sequence holds its prompt and all but the last of its tokens (all of them
/// where an end token came after).  Sequence i draws from random_stream(seed, "generate", i).
std::vector<Generated> generate(Model& model, Cache& cache, std::span<const Prompt> prompts,
                                const GenerateOptions& options);

}  // namespace kvlab
