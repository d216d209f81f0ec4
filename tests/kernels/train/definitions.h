#pragma once
// What the loops of training are, in double, from the formulas in their header's comments; nothing
// here includes them.

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace kvlab::test {

using Doubles = std::vector<double>;
using Halves = std::vector<uint16_t>;  // bfloat16

inline double value_of(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}
inline uint16_t half_of(float x) {  // to nearest, ties to even; no NaN here
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline Halves random_halves(size_t n, double size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0, size);
  Halves all(n);
  for (uint16_t& x : all) x = half_of(static_cast<float>(normal(generator)));
  return all;
}
inline std::vector<float> random_floats(size_t n, double size, unsigned seed) {
  std::vector<float> all;
  for (const uint16_t x : random_halves(n, size, seed))
    all.push_back(static_cast<float>(value_of(x)));
  return all;
}

/// Causal attention of one query head, from given gradients of its outputs to all others.  `mass`
/// holds the sums of absolute terms that each result is made of: what its rounding is measured by.
struct HeadOfAttention {
  int64_t tokens = 0, dim = 0;
  double scale = 0;
  Doubles q, k, v, dout;    // [tokens, dim], q and k not turned
  Doubles cos, sin;         // [tokens, dim / 2]
  Doubles out, dq, dk, dv;  // results; dk and dv of this head alone
  Doubles out_mass, dq_mass, dk_mass, dv_mass;
  Doubles lse2;                   // [tokens], base 2
  double largest_logit_mass = 0;  // scale * sum |q c| |k c|, the largest

  Doubles turned(const Doubles& x, double direction) const {
    Doubles y = x;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t c = 0; c < dim / 2; ++c) {
        const double a = x[t * dim + c], b = x[t * dim + dim / 2 + c];
        const double co = cos[t * dim / 2 + c], si = direction * sin[t * dim / 2 + c];
        y[t * dim + c] = a * co - b * si;
        y[t * dim + dim / 2 + c] = b * co + a * si;
      }
    return y;
  }
  /// Larger than what turning can make of any feature: both features of a pair, added.
  Doubles turned_mass(const Doubles& x) const {
    Doubles y = x;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t c = 0; c < dim / 2; ++c)
        y[t * dim + c] = y[t * dim + dim / 2 + c] =
            std::abs(x[t * dim + c]) + std::abs(x[t * dim + dim / 2 + c]);
    return y;
  }

  void run() {
    const Doubles rq = turned(q, 1), rk = turned(k, 1);
    const size_t n = q.size();
    for (Doubles* all : {&out, &dq, &dk, &dv, &out_mass, &dq_mass, &dk_mass, &dv_mass})
      all->assign(n, 0);
    lse2.assign(static_cast<size_t>(tokens), 0);
    Doubles turned_dq(n), turned_dk(n), q_mass(n), k_mass(n);
    for (int64_t i = 0; i < tokens; ++i) {
      Doubles p(static_cast<size_t>(i + 1));
      double top = -1e300, sum = 0;
      for (int64_t j = 0; j <= i; ++j) {
        double logit = 0, mass = 0;
        for (int64_t c = 0; c < dim; ++c) {
          logit += scale * rq[i * dim + c] * rk[j * dim + c];
          mass += scale * std::abs(rq[i * dim + c] * rk[j * dim + c]);
        }
        p[j] = logit;
        top = std::max(top, logit);
        largest_logit_mass = std::max(largest_logit_mass, mass);
      }
      for (double& x : p) sum += x = std::exp(x - top);
      lse2[i] = (top + std::log(sum)) / std::log(2.0);
      double delta = 0, delta_mass = 0;
      for (int64_t j = 0; j <= i; ++j) {
        p[j] /= sum;
        for (int64_t c = 0; c < dim; ++c) {
          out[i * dim + c] += p[j] * v[j * dim + c];
          out_mass[i * dim + c] += p[j] * std::abs(v[j * dim + c]);
        }
      }
      for (int64_t c = 0; c < dim; ++c) {
        delta += out[i * dim + c] * dout[i * dim + c];
        delta_mass += out_mass[i * dim + c] * std::abs(dout[i * dim + c]);
      }
      for (int64_t j = 0; j <= i; ++j) {
        double dp = 0, dp_mass = 0;
        for (int64_t c = 0; c < dim; ++c) {
          dp += dout[i * dim + c] * v[j * dim + c];
          dp_mass += std::abs(dout[i * dim + c] * v[j * dim + c]);
        }
        const double ds = scale * p[j] * (dp - delta),
                     ds_mass = scale * p[j] * (dp_mass + delta_mass);
        for (int64_t c = 0; c < dim; ++c) {
          dv[j * dim + c] += p[j] * dout[i * dim + c];
          dv_mass[j * dim + c] += p[j] * std::abs(dout[i * dim + c]);
          turned_dq[i * dim + c] += ds * rk[j * dim + c];
          q_mass[i * dim + c] += ds_mass * std::abs(rk[j * dim + c]);
          turned_dk[j * dim + c] += ds * rq[i * dim + c];
          k_mass[j * dim + c] += ds_mass * std::abs(rq[i * dim + c]);
        }
      }
    }
    dq = turned(turned_dq, -1);
    dk = turned(turned_dk, -1);
    dq_mass = turned_mass(q_mass);
    dk_mass = turned_mass(k_mass);
  }
};

}  // namespace kvlab::test
