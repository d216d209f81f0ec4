#include "eval/models/forward.h"

#include "core/error.h"

namespace kvlab {

void check_tokens(std::string_view who, std::span<const int32_t> token_ids, int64_t vocab_size) {
  for (size_t i = 0; i < token_ids.size(); ++i)
    KVLAB_REQUIRE(token_ids[i] >= 0 && token_ids[i] < vocab_size, "E_POSITION", who, ": token id ",
                  token_ids[i], " of row ", i, " is outside the vocabulary, 0..", vocab_size - 1);
}

void check_input(std::string_view who, const ForwardInput& input, int64_t vocab_size) {
  const int64_t rows = input.rows.size();
  KVLAB_REQUIRE(static_cast<int64_t>(input.token_ids.size()) == rows, "E_SHAPE", who, ": ",
                input.token_ids.size(), " token ids for ", rows, " rows");
  check_tokens(who, input.token_ids, vocab_size);
  for (size_t i = 0; i < input.wanted.size(); ++i)
    KVLAB_REQUIRE(
        input.wanted[i] >= (i == 0 ? 0 : input.wanted[i - 1] + 1) && input.wanted[i] < rows,
        "E_SHAPE", who, ": wanted row ", input.wanted[i], " is not ascending in 0..", rows - 1);
}

}  // namespace kvlab
