#include "methods/slim/analysis.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/diag.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_solve.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/error.h"
#include "core/torch.h"
#include "methods/slim/row_maker.h"

namespace kvlab::slim {
namespace {

constexpr double kRankTolerance = 1e-12;  // of sigma_1, float64
constexpr double kExact = 1e-6;           // residual up to which values are given back

double number(const at::Tensor& x) { return x.item<double>(); }
double power(const at::Tensor& x) { return number(x.square().sum()); }
at::Tensor doubles(const TensorView& view) { return to_torch(view).to(at::kDouble); }

/// E of the squares of the columns of x map.
at::Tensor column_power(const at::Tensor& map, const at::Tensor& covariance) {
  return at::mm(covariance, map).mul_(map).sum(0).clamp_min(0);
}
/// E |x map|^2.
double row_power(const at::Tensor& map, const at::Tensor& covariance) {
  return number(column_power(map, covariance).sum());
}

/// [heads * dim, w]^T as the engine wants it: float32 [heads, dim, w] of a map [w, heads * dim].
at::Tensor per_head(const at::Tensor& map, int64_t heads) {
  return map.t().contiguous().view({heads, map.size(1) / heads, map.size(0)}).to(at::kFloat);
}
at::Tensor bias_per_head(const at::Tensor& bias, int64_t heads) {
  return bias.defined() ? bias.view({heads, -1}).to(at::kFloat).contiguous() : bias;
}
/// The inverse of per_head.
at::Tensor as_map(const at::Tensor& up) {
  return up.reshape({up.size(0) * up.size(1), up.size(2)}).t().to(at::kDouble);
}

/// Columns of `map` [D, heads * dim] of features [first, last) of every head.
at::Tensor head_columns(const at::Tensor& map, int64_t heads, int64_t first, int64_t last) {
  const int64_t dim = map.size(1) / heads;
  return map.view({map.size(0), heads, dim})
      .narrow(2, first, last - first)
      .reshape({map.size(0), heads * (last - first)});
}

/// Principal directions, strongest first: eigenvectors of a symmetric matrix, as columns.
at::Tensor principal(const at::Tensor& covariance) {
  return std::get<1>(at::linalg_eigh(covariance)).flip(1).contiguous();
}

double mean_of(const at::Tensor& x, double (*of)(double, Dtype), Dtype format) {
  const at::Tensor all = x.to(at::kDouble).contiguous();
  double sum = 0;
  for (int64_t i = 0; i < all.numel(); ++i) sum += of(all.data_ptr<double>()[i], format);
  return sum / static_cast<double>(std::max<int64_t>(all.numel(), 1));
}

at::Tensor round_to(const at::Tensor& x, Dtype format) {
  return x.to(scalar_type(format)).to(at::kDouble);
}

/// Keys of each head in the basis of their principal directions: block diagonal [w, w], and the
/// blocks [Hkv, d, d].
struct Basis {
  at::Tensor all{}, blocks{};
};
Basis head_basis(const Site& site, const at::Tensor& rows, const at::Tensor& covariance) {
  const at::Tensor moments = at::mm(rows.t(), at::mm(covariance, rows));
  Basis basis{.all = at::eye(rows.size(1), at::kDouble),
              .blocks = at::zeros({site.num_kv_heads, site.head_dim, site.head_dim}, at::kDouble)};
  for (int64_t h = 0; h < site.num_kv_heads; ++h) {
    const int64_t first = h * site.head_dim;
    const auto block = [&](const at::Tensor& of) {
      return of.narrow(0, first, site.head_dim).narrow(1, first, site.head_dim);
    };
    basis.blocks.select(0, h).copy_(principal(block(moments)));
    block(basis.all).copy_(basis.blocks.select(0, h));
  }
  return basis;
}

at::Tensor quantised(const at::Tensor& rows, int bits) {
  constexpr int64_t kGroup = 32;
  at::Tensor out = rows.clone();
  const double levels = std::ldexp(1.0, bits) - 1;
  for (int64_t first = 0; first < rows.size(1); first += kGroup) {
    at::Tensor group = out.narrow(1, first, std::min(kGroup, rows.size(1) - first));
    const at::Tensor low = group.amin({1}, true);
    const at::Tensor step = (group.amax({1}, true) - low).div_(levels).clamp_min_(1e-300);
    group.copy_(((group - low) / step).round_() * step + low);
  }
  return out;
}

}  // namespace

Weights weights_of(const ModelAccess& model, const Site& site) {
  const auto map = [&](const char* role, int64_t width) {
    const TensorView view = model.weight(role, site.layer);
    KVLAB_REQUIRE(view, "E_WEIGHT", "slim: the model shows no `", role, "` projection of layer ",
                  site.layer);
    KVLAB_REQUIRE(view.dims == 2 && view.size(0) == width && view.size(1) == site.model_width,
                  "SLIM_E_INPUT", "slim: layer ", site.layer, ": the ", role, " projection is [",
                  view.size(0), ", ", view.size(1), "], not [", width, ", ", site.model_width,
                  "]: keys and values must be linear in one shared input of the model's width");
    return doubles(view).t().contiguous();
  };
  const auto bias = [&](const char* role) {
    const TensorView view = model.weight(role, site.layer);
    return view ? doubles(view) : at::Tensor();
  };
  return {.key = map("key", site.key_width()),
          .value = map("value", site.value_width()),
          .key_bias = bias("key_bias"),
          .value_bias = bias("value_bias")};
}

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  const double of = power(b);
  return of > 0 ? std::sqrt(power(a - b) / of) : std::sqrt(power(a));
}

at::Tensor completion(const at::Tensor& a) {
  const at::Tensor q = std::get<0>(at::linalg_qr(a, "complete"));
  return q.narrow(1, a.size(1), a.size(0) - a.size(1)).contiguous();
}

Solution solve(const at::Tensor& f, const at::Tensor& target) {
  const auto [u, sigma, vh] = at::linalg_svd(f, /*full_matrices=*/false);
  const double first = number(sigma[0]), last = number(sigma[-1]);
  Solution solution{.condition = last > 0 ? first / last : INFINITY,
                    .rank = (sigma > kRankTolerance * first).sum().item<int64_t>()};
  const bool is_regular = solution.rank == f.size(0) && f.size(0) == f.size(1);
  if (is_regular) {
    solution.map = at::linalg_solve(f, target);
  } else {
    const at::Tensor inverse =
        at::where(sigma > kRankTolerance * first, sigma.reciprocal(), at::zeros_like(sigma));
    solution.map = at::mm(vh.t(), inverse.unsqueeze(1) * at::mm(u.t(), target));
  }
  solution.residual = relative_error(at::mm(f, solution.map), target);
  solution.largest = number(solution.map.abs().max());
  return solution;
}

at::Tensor least_error_decoder(const at::Tensor& f, const at::Tensor& target,
                               const at::Tensor& covariance, double noise) {
  const at::Tensor seen = at::mm(f.t(), covariance);
  at::Tensor moments = at::mm(seen, f);
  moments.diagonal().mul_(1 + noise * noise);
  return at::linalg_solve(moments, at::mm(seen, target));
}

double noise_gain(const at::Tensor& f, const at::Tensor& map, const at::Tensor& target,
                  const at::Tensor& covariance) {
  const at::Tensor amplified = column_power(f, covariance) * map.square().sum(1);
  return std::sqrt(number(amplified.sum()) / row_power(target, covariance));
}

Shaping shaping_of(const at::Tensor& f, const at::Tensor& map, const at::Tensor& target,
                   const at::Tensor& covariance) {
  const at::Tensor powers = column_power(f, covariance);
  const double floor = number(powers.max()) * 1e-12;  // a column that is never used
  const at::Tensor own =
      powers.clamp_min(floor).mul(static_cast<double>(f.size(1))).rsqrt_().diag();
  // The cost is A^T A: a QR of A loses none of it, a Cholesky of the product would end at G = 1e8.
  const at::Tensor root = at::cat({map.t() / std::sqrt(row_power(target, covariance)), own});
  const at::Tensor upper = std::get<1>(at::linalg_qr(root, "r"));
  const at::Tensor diagonal = upper.diagonal();
  return {.lower = (upper / diagonal.unsqueeze(1)).t().contiguous(), .cost = diagonal.square()};
}

Base base_of(const Site& site, const Weights& weights, const Inputs& inputs, double noise) {
  Base base{.rows = weights.key};
  const int64_t heads = site.num_kv_heads;
  if (site.rotary == Rotary::partial)
    base.rows = head_columns(weights.key, heads, 0, site.rotary_dim);
  if (base.rows.size(1) < site.model_width)
    base.rows = at::cat({base.rows, completion(base.rows)}, 1).contiguous();
  base.values = solve(base.rows, weights.value);
  if (noise > 0)
    base.values.map = least_error_decoder(base.rows, weights.value, inputs.covariance, noise);
  const at::Tensor missed = at::mm(base.rows, base.values.map) - weights.value;
  base.lost =
      std::sqrt(row_power(missed, inputs.covariance) / row_power(weights.value, inputs.covariance));
  base.gain = noise_gain(base.rows, base.values.map, weights.value, inputs.covariance);
  if (site.rotary == Rotary::partial) base.keys = solve(base.rows, weights.key).map;
  return base;
}

Analysis::Analysis(const Request& request) : request_(request) {
  if (request.inputs == nullptr) return;
  const at::Tensor x = request.inputs->held_out.to(at::kDouble);
  held_keys_ = at::mm(x, request.weights.key);
  held_values_ = at::mm(x, request.weights.value);
  rounding_ = relative_error(round_to(held_values_, request.stored), held_values_);
  if (request.site.rotary == Rotary::none) return;
  base_ =
      base_of(request.site, request.weights, *request.inputs, request.least_error ? rounding_ : 0);
}

void Analysis::refuse_if_impossible(Mode mode) const {
  const Site& site = request_.site;
  const bool absorbs = mode == Mode::input || mode == Mode::klt;
  KVLAB_REQUIRE(!absorbs || site.rotary == Rotary::none, "SLIM_E_ROPE_ABSORB", "slim: layer ",
                site.layer, ": mode `", name_of(mode),
                "` moves the key projection to the query, but RoPE turns ",
                site.rotary == Rotary::full ? "every feature" : "some features",
                " of a key between the two; use the modes of keys, or `auto`");
  KVLAB_REQUIRE(mode == Mode::input || request_.inputs != nullptr, "E_CONFIG", "slim: layer ",
                site.layer, ": mode `", name_of(mode),
                "` is fitted to a text; give one with --text or --tokens");
  const bool shapes = mode != Mode::keys && !absorbs;
  KVLAB_REQUIRE(!shapes || is_16_bit(request_.stored), "E_CONFIG", "slim: layer ", site.layer,
                ": mode `", name_of(mode), "` repairs rounding to 16 bits, rows are stored in ",
                name_of(request_.stored), "; set `store` to bfloat16 or float16, or use `keys`");
}

Candidate Analysis::dense() const {
  return {.predicted = rounding_,
          .value_error = rounding_,
          .key_error = held_keys_.defined()
                           ? relative_error(round_to(held_keys_, request_.stored), held_keys_)
                           : 0};
}

Candidate Analysis::make(Mode mode, int64_t side) const {
  if (mode == Mode::dense) return dense();
  refuse_if_impossible(mode);
  Candidate made = request_.site.rotary == Rotary::none ? absorbed(mode) : keyed(mode, side);
  const Site& site = request_.site;
  const double bytes =
      static_cast<double>(made.factors.width()) * (made.factors.is_24_bit() ? 1.5 : 1.0) +
      static_cast<double>(made.factors.side());
  made.share = site.reads_other_rows() ? 0 : bytes / static_cast<double>(site.dense_width());
  if (request_.inputs != nullptr) measure(made);
  return made;
}

/// Nothing turns: keys and values are both linear in the row.
Candidate Analysis::absorbed(Mode mode) const {
  const Site& site = request_.site;
  const Weights& w = request_.weights;
  Candidate made{.factors = {.mode = mode, .keys_are_slices = false}};
  at::Tensor key = w.key, value = w.value;
  if (mode != Mode::input) {
    at::Tensor rows = w.key;
    if (rows.size(1) < site.model_width) rows = at::cat({rows, completion(rows)}, 1);
    if (mode == Mode::klt)
      rows = at::mm(rows, principal(at::mm(rows.t(), at::mm(request_.inputs->covariance, rows))));
    const Solution values = solve(rows, w.value);
    key = solve(rows, w.key).map;
    value = values.map;
    made.factors.rows = rows.to(at::kFloat).contiguous();
    made.predicted = rounding_ * noise_gain(rows, value, w.value, request_.inputs->covariance);
  }
  made.factors.key_up = per_head(key, site.num_kv_heads);
  made.factors.key_bias = bias_per_head(w.key_bias, site.num_kv_heads);
  made.factors.value_up = per_head(value, site.num_kv_heads);
  made.factors.value_bias = bias_per_head(w.value_bias, site.num_kv_heads);
  return made;
}

Candidate Analysis::keyed(Mode mode, int64_t side) const {
  const Site& site = request_.site;
  const Weights& w = request_.weights;
  const at::Tensor& covariance = request_.inputs->covariance;
  KVLAB_REQUIRE(has_side(mode) || base_->values.residual < kExact || request_.least_error,
                "SLIM_E_RANK", "slim: layer ", site.layer, ": rank(W_K) = ", base_->values.rank,
                " and the values leave its span by ", base_->values.residual,
                " of their size: rows of keys do not determine them; use `keys_side`, "
                "`keys_shaped_side` or `auto`");
  at::Tensor rows = base_->rows, map = base_->values.map;
  Candidate made{.factors = {.mode = mode}};
  Factors& f = made.factors;
  if (mode == Mode::keys_basis) {
    KVLAB_REQUIRE(site.rotary == Rotary::full, "E_CONFIG", "slim: layer ", site.layer,
                  ": mode `keys_basis` mixes the features of a head, of which RoPE turns only ",
                  site.rotary_dim, "; use `auto`");
    const Basis basis = head_basis(site, rows, covariance);
    rows = at::mm(rows, basis.all);
    map = at::mm(basis.all.t(), map);
    f.key_up = basis.blocks.to(at::kFloat).contiguous();
  }
  if (base_->keys.defined()) {
    f.keys_are_slices = false;
    f.key_up = per_head(base_->keys, site.num_kv_heads);
  }
  f.key_bias = bias_per_head(w.key_bias, site.num_kv_heads);
  f.rows = rows.to(at::kFloat).contiguous();
  f.value_up = per_head(map, site.num_kv_heads);
  f.value_bias = bias_per_head(w.value_bias, site.num_kv_heads);
  made.predicted = std::hypot(rounding_ * base_->gain / (f.is_24_bit() ? 256 : 1), base_->lost);
  if (shapes_rounding(mode)) {
    const Shaping shaping = shaping_of(rows, map, w.value, covariance);
    f.shaping = shaping.lower.to(at::kFloat).contiguous();
    const at::Tensor learned = at::mm(request_.inputs->learned.to(at::kDouble), rows);
    double sum = 0;
    for (int64_t j = 0; j < rows.size(1); ++j)
      sum += number(shaping.cost[j]) *
             mean_of(
                 learned.select(1, j),
                 [](double x, Dtype format) { return ulp(x, format) * ulp(x, format) / 12; },
                 request_.stored);
    made.predicted = std::sqrt(sum);
  }
  if (has_side(mode)) add_side(f, side, made.predicted);
  return made;
}

/// The strongest directions of what is really lost, after rounding (and shaping): R = V - row W.
void Analysis::add_side(Factors& f, int64_t side, double& predicted) const {
  const Weights& w = request_.weights;
  KVLAB_REQUIRE(side >= 1 && side <= w.value.size(1), "E_CONFIG", "slim: layer ",
                request_.site.layer, ": a side cache of ", side, " numbers per token; values have ",
                w.value.size(1));
  const at::Tensor& x = request_.inputs->learned;
  const at::Tensor row = RowMaker(f, request_.stored).make(x).row.to(at::kDouble);
  const at::Tensor map = as_map(f.value_up);
  const at::Tensor values = at::mm(x.to(at::kDouble), w.value);
  const at::Tensor lost = values - at::mm(row, map);
  const auto [strength, directions] = at::linalg_eigh(at::mm(lost.t(), lost));
  const at::Tensor kept = directions.narrow(1, directions.size(1) - side, side).contiguous();
  f.side_input = at::mm(w.value, kept).to(at::kFloat).contiguous();
  f.side_row = at::mm(map, kept).to(at::kFloat).contiguous();
  f.side_up = per_head(kept.t().contiguous(), request_.site.num_kv_heads);
  const double all = number(strength.clamp_min(0).sum()),
               rest = number(strength.narrow(0, 0, strength.size(0) - side).clamp_min(0).sum());
  // Side rows are rounded in their turn.
  predicted = std::sqrt((rest + rounding_ * rounding_ * (all - rest)) / power(values));
}

at::Tensor Analysis::values_from(const Factors& f, const at::Tensor& row,
                                 const at::Tensor& side) const {
  at::Tensor values = at::mm(row, as_map(f.value_up));
  if (side.defined()) values.add_(at::mm(side, as_map(f.side_up)));
  return values;
}

void Analysis::measure(Candidate& made) const {
  const Factors& f = made.factors;
  const Site& site = request_.site;
  const RowMaker::Rows stored = RowMaker(f, request_.stored).make(request_.inputs->held_out);
  at::Tensor row = stored.row.to(at::kDouble);
  if (f.is_24_bit())
    std::transform(row.data_ptr<double>(), row.data_ptr<double>() + row.numel(),
                   row.data_ptr<double>(),
                   [&](double x) { return rounded24(static_cast<float>(x), request_.stored); });
  const at::Tensor side = stored.side.defined() ? stored.side.to(at::kDouble) : stored.side;
  made.value_error = relative_error(values_from(f, row, side), held_values_);
  at::Tensor keys;
  if (!f.keys_are_slices) {
    keys = at::mm(row, as_map(f.key_up));
  } else {
    keys = row.narrow(1, 0, site.key_width());
    if (f.key_up.defined())  // [Hkv, d, d] on the features of each head
      keys = at::matmul(keys.reshape({-1, site.num_kv_heads, 1, site.head_dim}),
                        f.key_up.to(at::kDouble).transpose(1, 2))
                 .reshape({-1, site.key_width()});
  }
  made.key_error = relative_error(keys, held_keys_);
}

double Analysis::quantised_error(const Candidate& made, int bits) const {
  const RowMaker::Rows stored =
      RowMaker(made.factors, request_.stored).make(request_.inputs->held_out);
  const at::Tensor side =
      stored.side.defined() ? quantised(stored.side.to(at::kDouble), bits) : stored.side;
  return relative_error(
      values_from(made.factors, quantised(stored.row.to(at::kDouble), bits), side), held_values_);
}

}  // namespace kvlab::slim
