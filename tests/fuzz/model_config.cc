// Any bytes as a model's config.json: a shape that fits together, or one sentence.

#include "core/json.h"
#include "eval/models/decoder_config.h"
#include "eval/models/encoder_decoder_config.h"
#include "tests/fuzz/fuzz.h"

void kvlab::fuzz::target(std::string_view text) {
  ModelShape shape;
  const bool valid = fuzz::accepts({"E_FORMAT", "E_UNSUPPORTED"}, [&] {
    const Json json = parse_json(text, "input");
    if (is_encoder_decoder(json, "input")) {
      shape = shape_of(encoder_decoder_config(json, "input"));
      return;
    }
    const DecoderConfig config = decoder_config(json, "input");
    fuzz::require(config.window_left.size() == static_cast<size_t>(config.num_layers),
                  "every layer has a window or none");
    shape = shape_of(config);
  });
  if (!valid) return;
  check(shape);
  fuzz::require(dense_bytes_per_token(shape) > 0, "a shape stores something");
}
