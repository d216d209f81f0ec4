#pragma once
// What a corpus is made of: configs/corpus.json.

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"

namespace kvlab::corpus {

inline constexpr const char* kConfigSchema = "kvlab-corpus/1";

/// A share for each length; what they are shares of is counted in documents.
using Shares = std::vector<int64_t>;

struct RecallTask {
  std::string name{};
  Json params = Json::object();  // without `length` and `samples`
  Shares shares{};
};

struct RecallConfig {
  std::vector<int64_t> lengths{};  // of documents, tokens, the first included
  std::vector<int64_t> tokens{};   // for each length
  std::vector<std::pair<std::string, Shares>> kinds{};
  std::vector<RecallTask> tasks{};  // of the harness
  int64_t tokenizer_documents = 0;  // that the tokenizer is trained on beside text
};

struct Config {
  Json whole{};  // completed
  uint64_t seed = 0;
  int64_t vocabulary = 0;
  RecallConfig recall{};
};

/// E_CONFIG, E_UNKNOWN with the key; `where` names the file in errors.
Config parse_config(const Json& given, const std::string& where);

}  // namespace kvlab::corpus
