#pragma once
// `kvlab corpus baselines`.

#include <filesystem>

#include "core/json.h"
#include "eval/experiment/run.h"

namespace kvlab::corpus {

inline constexpr int kBaselineOrder = 5;

/// Unigram and Kneser-Ney 5-gram of text-train on text-test: [{"model", "tokens", "nats",
/// "perplexity", "bits_per_byte"}, ...].  E_FILE, E_FORMAT: `corpus` is not what build() writes.
Json baselines(const std::filesystem::path& corpus, const RunObserver& observer);

}  // namespace kvlab::corpus
