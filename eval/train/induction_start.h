#pragma once
// A start for training that already looks back and matches.

#include "eval/autograd/decoder_tensors.h"
#include "eval/models/decoder_config.h"

namespace kvlab {

/// What the matching heads of layer 1 compare: a token each, or one of them two in a row.
enum class Match : u8 { tokens, pairs };

/// Adds to drawn weights two pairs of heads that copy what once followed the present token
/// (induction heads, arXiv 2209.11895).  From drawn weights alone they appear late and all at once,
/// after more tokens than two processor cores see in hours; from here the same loss shapes them
/// from the first step.  A model begun so says it in its card.
///
/// x is the normed input of a layer, mu a unit vector, R_h and S_h [head_dim, D] rows of one drawn
/// orthonormal basis, mu projected out; h = 0, 1:
///   embedding  every row: its part along mu is replaced by one as long as the rest
///   layer 0    head h looks back h + 1 tokens: key and query along mu, on the fastest rotary
///              pairs, the query turned back; value R_h x / 4, output S_h^T / 4
///   layer 1    head h matches the present token with the one h + 1 before: query R_h x, key S_h x,
///              on the slower half of the pairs; value R_h x / 2, output R_h^T / 2
/// Match::pairs: both heads of layer 0 write R_0 x / 4, and head 1 of layer 1 matches, on the even
/// ones of its pairs, the present token with the one before, on the odd ones, half as strongly, the
/// one before with the one two before: query R_0 x and S_0 x / 2, key S_0 x and S_1 x.
/// With fewer kv heads than query heads, the first query head of each of the first two groups.
///
/// E_CONFIG: fewer than two layers or kv heads, D below 4 head_dim, or an architecture with other
/// norms or no rotary embedding of whole heads.
void add_induction_heads(const DecoderConfig& config, Match match, uint64_t seed,
                         DecoderTensors& weights);

}  // namespace kvlab
