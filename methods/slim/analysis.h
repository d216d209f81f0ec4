#pragma once
// From a layer's weights to the maps of each mode and what they cost (arXiv 2503.05840; the gain,
// shaped rounding and the side cache are this project's own).  All in float64.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "core/model_access.h"
#include "methods/slim/factors.h"
#include "methods/slim/moments.h"
#include "methods/slim/site.h"

namespace kvlab::slim {

/// Row-vector convention, float64: K = x key + key_bias.
struct Weights {
  at::Tensor key{}, value{};            // [D, e], [D, e_v]
  at::Tensor key_bias{}, value_bias{};  // [e], [e_v], or undefined
};
/// E_WEIGHT: a projection the model does not show; SLIM_E_INPUT: one of another input width.
Weights weights_of(const ModelAccess& model, const Site& site);

/// Root mean square of a - b over that of b.
double relative_error(const at::Tensor& a, const at::Tensor& b);

/// Columns that complete the span of a [D, n], n < D, to the whole space: orthonormal [D, D - n].
at::Tensor completion(const at::Tensor& a);

/// W with F W = target: by LU where F [D, w] is square and regular, else the least solution of
/// least norm (the right inverse for w > D).
struct Solution {
  at::Tensor map{};                   // [w, m] float64
  double residual = 0;                // |F W - target| / |target|
  double condition = 0, largest = 0;  // sigma_1 / sigma_min of F; max |W|
  int64_t rank = 0;                   // of F, to 1e-12 of sigma_1
};
Solution solve(const at::Tensor& f, const at::Tensor& target);

/// The linear decoder of least expected error of target from rows rounded with relative noise
/// `noise`: (F^T C F + N)^-1 F^T C target, N = diag(noise^2 E r_j^2).  Never above 100 % error, and
/// no repair.
at::Tensor least_error_decoder(const at::Tensor& f, const at::Tensor& target,
                               const at::Tensor& covariance, double noise);

/// G = sqrt(sum_j E r_j^2 |W_j|^2 / E |v|^2): the error of v = r W over the relative rounding error
/// of r, which is c G for independent rounding of relative size c.  Invariant under scaling of the
/// columns of F.
double noise_gain(const at::Tensor& f, const at::Tensor& map, const at::Tensor& target,
                  const at::Tensor& covariance);

/// Unit lower triangular L and D >= 0 with L D L^T = W W^T / E |v|^2 + diag(1 / (w E r_j^2)): what
/// an error of the row costs, its own relative size included.
struct Shaping {
  at::Tensor lower{}, cost{};  // float64 [w, w], [w]
};
Shaping shaping_of(const at::Tensor& f, const at::Tensor& map, const at::Tensor& target,
                   const at::Tensor& covariance);

/// What RoPE and widths allow to be stored, and how values come from it.
struct Base {
  at::Tensor rows{};  // F [D, w]
  Solution values{};  // F W = value projection
  at::Tensor keys{};  // partial rotation: [w, e], keys from rows; else undefined
  double gain = 0;    // noise_gain of F and W
  double lost = 0;    // relative error of values without any rounding
};
/// noise > 0: W is least_error_decoder's.
Base base_of(const Site& site, const Weights& weights, const Inputs& inputs, double noise = 0);

/// One mode of one layer.
struct Candidate {
  Factors factors{};
  double share = 1;                       // of the bytes of the dense cache in the stored format
  double predicted = 0;                   // relative error of values, from the law of the mode
  double value_error = 0, key_error = 0;  // measured on the held-out rows, root mean square
};

struct Request {
  const Site& site;
  const Weights& weights;
  const Inputs* inputs = nullptr;  // null: no text; only `input` and `dense` can be made
  Dtype stored = Dtype::bf16;
  bool least_error = false;  // decoder: least_error_decoder instead of the inverse
};

/// Makes and measures candidates of one layer; shares what they have in common.
class Analysis {
 public:
  explicit Analysis(const Request& request);

  const Base& base() const { return *base_; }
  bool has_base() const { return base_.has_value(); }
  /// Relative error that rounding to the stored format does to values of the dense cache: c.
  double rounding() const { return rounding_; }
  /// side: r of the modes that have a side cache.  SLIM_E_ROPE_ABSORB: `input` or `klt` where keys
  /// turn; SLIM_E_RANK: a key mode that cannot give values back; E_CONFIG: a mode that needs a text
  /// or a 16-bit format.
  Candidate make(Mode mode, int64_t side = 0) const;
  /// Relative error of values when the candidate's rows are then coded with `bits` bits per number,
  /// a scale and a minimum for each 32 of a row.
  double quantised_error(const Candidate& candidate, int bits) const;

 private:
  Candidate dense() const;
  Candidate absorbed(Mode mode) const;
  Candidate keyed(Mode mode, int64_t side) const;
  void add_side(Factors& factors, int64_t side, double& predicted) const;
  void measure(Candidate& candidate) const;
  at::Tensor values_from(const Factors& factors, const at::Tensor& row,
                         const at::Tensor& side) const;
  void refuse_if_impossible(Mode mode) const;

  Request request_;
  std::optional<Base> base_{};
  at::Tensor held_keys_{}, held_values_{};  // float64, of the held-out rows, without biases
  double rounding_ = 0;
};

}  // namespace kvlab::slim
