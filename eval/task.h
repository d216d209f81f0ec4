#pragma once
// What a model is asked.  A task is a plain value in the catalogue; a folder of eval/tasks/ adds
// one.  It makes samples and names the metrics they are judged by; feeding, caches, scoring and
// statistics are everybody's.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/model_shape.h"
#include "eval/sample.h"
#include "eval/tokenizer.h"

namespace kvlab {

/// A text or token file as a task sees it.
struct Text {
  std::vector<int32_t> tokens{};
  bool tokenizer_adds_bos = false;  // what it would put ahead; it is not among the tokens
  Json files = Json::array();       // {"path", "sha256", "bytes"} of what was read
  std::string tokenizer_sha{};      // empty: no tokenizer was needed
};

struct TaskSetup {
  const Json* params = nullptr;  // completed by the schema
  uint64_t seed = 0;
  const ModelShape* shape = nullptr;
  int32_t begin_token = -1;  // of the model
  /// Reads a text file through the model's tokenizer: E_NO_TOKENIZER; or a token file.
  std::function<Text(const std::filesystem::path&)> read_text{}, read_tokens{};
  /// The model's own, for tasks that are made of text: E_NO_TOKENIZER.
  std::function<std::shared_ptr<Tokenizer>()> tokenizer{};
  /// Where a file that the parameters name lies: relative to the config.
  std::function<std::filesystem::path(const std::filesystem::path&)> locate{};
};

/// The text that a task's parameters `text` or `tokens` name.  E_CONFIG unless exactly one does.
Text read_given(const TaskSetup& setup, std::string_view task);

/// A task ready to be run.
struct Work {
  std::string protocol{};              // "decode(768,255,1)"
  std::string metric_suffix{};         // of metrics whose name the protocol is part of
  std::vector<std::string> metrics{};  // it is judged by, the headline first
  int64_t count = 0;
  std::function<Sample(int64_t index)> sample{};
  int64_t prefill_chunk = 512;   // unless the experiment says otherwise; 0: the context at once
  int64_t query_chunk = 0;       // 0: a query at once
  bool needs_raw_chunk = false;  // read_policy may be nothing else
  bool query_aware = false;      // the query may be moved into the context
  bool noise_floor = false;      // also run the dense model in one pass
  bool fidelity = false;         // also run beside a dense cache and compare, token by token
  Json facts = Json::object();   // for the record: files, BOS handling, counts
  std::string tokenizer_sha{};
  std::shared_ptr<Tokenizer> tokenizer{};  // turns what is generated into text; null: tokens
};

struct Task {
  std::string name{}, summary{};
  /// {"ppl": X, ...} in a config stands for {"builtin": name, <shorthand parameter>: X, ...}.
  std::string shorthand{}, shorthand_parameter{};
  /// Of its parameters (core/schema.h); may depend on those given.
  std::function<std::string(const Json& given)> schema{};
  std::function<Work(const TaskSetup&)> prepare{};
};

}  // namespace kvlab
