#include "eval/rules.h"

#include "core/error.h"

namespace kvlab {

bool is_dense(const Composition& composition) {
  return !composition.project && !composition.encode && composition.selects.empty();
}

void check_reading(const Composition& composition, std::string_view who, ReadPolicy read) {
  check_read_policy(composition, read);
  KVLAB_REQUIRE(read == ReadPolicy::raw_chunk || composition.capabilities.causal_write,
                "E_NONCAUSAL_STORED_READ", who, ": what it stores of a token depends on later ",
                "tokens, so a pass that reads its own tokens as ", name_of(read),
                " would score them with the future in sight; use read_policy raw_chunk and the ",
                "protocol decode");
}

void check_matters(const Composition& composition, std::string_view who, const Sample& sample,
                   const Feeding& feeding) {
  if (is_dense(composition) || composition.capabilities.alters_weights) return;
  KVLAB_REQUIRE(reads_compressed(sample, feeding), "E_METHOD_CANNOT_MATTER", who,
                ": every scored token of ", sample.id, " is read before anything is compressed, ",
                "so the score would be the dense one whatever the method does; use the protocol ",
                "decode, the read policy stored or masked, or smaller prefill chunks; ",
                "--allow-vacuous prints it nevertheless");
}

}  // namespace kvlab
