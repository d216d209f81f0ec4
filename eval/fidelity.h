#pragma once
// How far a distribution over the next token lies from the dense run's, and how far a layer's rows
// and outputs do.  Everything is reduced where it arises: no run keeps tokens times vocabulary.

#include <cstdint>
#include <span>
#include <vector>

namespace kvlab {

/// Of one scored token.  p = softmax(dense logits z), q = softmax(the other's z'), y = its label.
struct TokenFidelity {
  double kl = 0, kl_rev = 0;   // sum p ln(p / q), sum q ln(q / p); nats
  double js = 0;               // Jensen-Shannon: mean of both KLs to (p + q) / 2
  double tv = 0;               // sum |p - q| / 2
  double dp = 0;               // q_y - p_y
  double dense_nll = 0;        // -ln p_y
  double margin = 0;           // largest z less the second largest
  bool agrees = false;         // arg max z = arg max z'
  double max_abs = 0;          // max |z - z'|
  double mean_abs = 0;         // mean |z - z'|
  double error = 0, norm = 0;  // sum (z - z')^2, sum z^2
};

/// Sums in float64; exactly 0 where both rows are equal.  The logits are finite, the label is in
/// the vocabulary.
TokenFidelity compare_logits(std::span<const float> dense, std::span<const float> other,
                             int32_t label);

/// The k largest, by (value descending, index ascending).  E_BAD_TOPK when there are fewer.
std::vector<int32_t> top_k(std::span<const float> logits, int k);
/// How many of the k largest of both are the same.
int top_k_overlap(std::span<const float> dense, std::span<const float> other, int k);

inline constexpr int kTopK[] = {5, 10, 50};  // whose overlap is kept

/// All scored tokens of one sample, in the order fed.
struct Fidelity {
  std::vector<double> kl{}, kl_rev{}, js{}, tv{}, dp{}, margin{}, max_abs{}, mean_abs{};
  std::vector<double> dense_nll{};
  std::vector<uint8_t> agrees{};
  std::vector<uint8_t> overlap_5{}, overlap_10{}, overlap_50{};  // empty: a smaller vocabulary
  double error = 0, norm = 0;                                    // TokenFidelity's, summed
  void add(std::span<const float> dense, std::span<const float> other, int32_t label);
};

/// Of one layer, in one sample.  o, o' are the outputs of attention of both runs for one query, all
/// heads together, as they ran: what lower layers had changed before is in them.
struct LayerFidelity {
  std::vector<double> nmse{};       // |o - o'|^2 / |o|^2, per probed query
  std::vector<double> cosine{};     // o . o' / (|o| |o'|), per probed query
  std::vector<double> head_nmse{};  // per query head, pooled over the probed queries
  /// Stored rows against the dense run's after the prefill, at positions that every head holds:
  /// sums of squared differences and of squares, the largest difference of a key feature.
  double key_error = 0, key_norm = 0, value_error = 0, value_norm = 0, key_max_abs = 0;
  /// For the first query after the prefill, as the dense run asks it: the largest error of a logit
  /// at those positions; the probability, per query head, of positions that are gone (none on
  /// layers with a bias by distance, which a shape does not hold).
  double score_max_abs = 0;
  std::vector<double> mass_lost{};
  std::vector<int64_t> retained{};  // rows after the prefill, per kv head
};

}  // namespace kvlab
