#pragma once
// A model built by hand that recalls perfectly: two blocks of attention solve multi-query
// associative recall and copying with a known loss, so that every number of an evaluation can be
// checked on any machine without training or weights (specification: evaluation, section 5.5).
//
// Vocabulary 32, token 0 first.  The residual stream has four parts: the token itself, the token
// before it (written by block 0, whose head looks one position back), the answer (written by
// block 1, whose head looks for the token that followed this one before), and a constant.
// A token that never occurred gets the mean of what was seen.

#include "eval/models/decoder_model.h"

namespace kvlab {

struct Recall2Spec {
  int num_heads = 1, num_kv_heads = 1;  // head 0 works, the others are zero
  Dtype dtype = Dtype::f32;
};

DecoderConfig recall2_config(const Recall2Spec& spec);
Network make_recall2(const Recall2Spec& spec);

}  // namespace kvlab
