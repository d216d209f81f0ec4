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

void check_source(const ModelOutline& model, std::string_view who, const Sample& sample) {
  const std::string& name = model.shape.architecture;
  const bool has_source = !sample.encoder_tokens.empty();
  KVLAB_REQUIRE(model.encoder_input != EncoderInput::features, "E_CONFIG", who, ": the encoder of ",
                name, " reads features of audio, and tasks hold tokens alone; drive the model ",
                "through eval/model.h");
  KVLAB_REQUIRE(has_source || model.encoder_input == EncoderInput::none, "E_CONFIG", who, ": ",
                name, " has an encoder, and ", sample.id, " has no tokens for it to read; such a ",
                "model runs task files of type `tokens` with `encoder_ids`");
  KVLAB_REQUIRE(!has_source || model.encoder_input == EncoderInput::token_ids, "E_CONFIG", who,
                ": ", sample.id, " has `encoder_ids`, and ", name,
                " has no encoder; leave them out or take an encoder-decoder model");
}

void refuse_encoder(const ModelShape& model, std::string_view who) {
  KVLAB_REQUIRE(!has_cross(model), "E_CONFIG", who, ": ", model.architecture,
                " has an encoder, and nothing is given for it to read; such a model runs task ",
                "files of type `tokens` with `encoder_ids` (kvlab eval)");
}

void check_matters(const Composition& composition, std::string_view who, const Sample& sample,
                   const Feeding& feeding) {
  if (is_dense(composition) || composition.capabilities.alters_weights) return;
  // Every token reads the encoder's as they are stored.
  if (!sample.encoder_tokens.empty() && (composition.project || composition.encode)) return;
  KVLAB_REQUIRE(reads_compressed(sample, feeding), "E_METHOD_CANNOT_MATTER", who,
                ": every scored token of ", sample.id, " is read before anything is compressed, ",
                "so the score would be the dense one whatever the method does; use the protocol ",
                "decode, the read policy stored or masked, or smaller prefill chunks; ",
                "--allow-vacuous prints it nevertheless");
}

}  // namespace kvlab
