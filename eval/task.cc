#include "eval/task.h"

#include "core/error.h"

namespace kvlab {

Text read_given(const TaskSetup& setup, std::string_view task) {
  const std::string text = setup.params->at("text"), tokens = setup.params->at("tokens");
  KVLAB_REQUIRE(text.empty() != tokens.empty(), "E_CONFIG", task,
                ": give exactly one of `text` (a UTF-8 file) and `tokens` (a token file)");
  return tokens.empty() ? setup.read_text(text) : setup.read_tokens(tokens);
}

}  // namespace kvlab
