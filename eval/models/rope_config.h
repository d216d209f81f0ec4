#pragma once
// Rotary frequencies of a Hugging Face config.json, old and new forms: `rope_theta` beside
// `rope_scaling` {"type" or "rope_type"}, or one `rope_parameters` that holds everything.

#include <cstdint>

#include "core/model_shape.h"
#include "eval/models/fields.h"

namespace kvlab {

/// LongRoPE has two sets of frequencies, one for sequences up to the length of pretraining and one
/// for longer ones.  Keys rotated by one mean nothing to queries rotated by the other, so a run
/// uses one of them throughout.
enum class LongRope : u8 { for_short, for_long };

struct RopeRequest {
  int head_dim = 0;
  int64_t max_positions = 0;
  bool partial = false;  // the architecture rotates a part of a head where the config says so
  bool yarn_is_longrope = false;  // Phi-3 once called LongRoPE "su" and "yarn"
  LongRope longrope = LongRope::for_short;
};

struct RopeSetting {
  Rope rope{};
  int64_t positions = -1;  // positions from here on need other frequencies; -1: none do
};

/// default, linear, llama3, yarn, longrope; half-split, frequencies in double.  E_UNSUPPORTED names
/// any other type (dynamic NTK changes the frequencies under keys already stored).
/// Source: YaRN, arXiv 2309.00071, sections 3.2-3.4; LongRoPE, arXiv 2402.13753; Llama 3.1.
RopeSetting rope_setting(const Fields& config, const RopeRequest& request);

}  // namespace kvlab
