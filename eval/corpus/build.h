#pragma once
// `kvlab corpus build`: packages and a seed to everything that a model is trained on.

#include <filesystem>

#include "core/json.h"
#include "eval/experiment/run.h"

namespace kvlab::corpus {

/// Writes into `out`: tokenizer.json (and tokenizer_config.json), text-train.bin, text-valid.bin,
/// text-test.bin, test.txt, an excerpt of it with licences where it is asked for, recall-LENGTH.bin
/// and .marks, and last corpus.json, which is returned: what it was made of, counts, and the
/// SHA-256 of every file.
///
/// The corpus appears whole: it is made beside `out` and then renamed.  E_FILE: `out` exists and is
/// no corpus.  E_PACKAGE: a package is missing or not the one that is pinned, by name.  E_CONFIG.
Json build(const Json& config, const std::filesystem::path& config_path,
           const std::filesystem::path& out, const RunObserver& observer);

/// {"packages": [...]} with the versions and hashes of what is installed now; the configuration
/// need not have any.  E_PACKAGE: one is not installed.
Json pin(const Json& config, const std::filesystem::path& config_path);

}  // namespace kvlab::corpus
