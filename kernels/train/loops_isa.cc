// kernels/train/train_loops.h, compiled once per instruction set.

#include <algorithm>
#include <cmath>

#include "kernels/exp.h"
#include "kernels/train/attention.h"
#include "kernels/train/round.h"
#include "kernels/train/train_loops.h"

namespace kvlab::inline KVLAB_TARGET {
namespace {

constexpr int W = kLanes;
constexpr float kLog2E = 1.442695041f;

/// Calls body(c, width) for whole vectors, then for what is left of n.
template <class Body, class Tail>
KVLAB_HD void over(int64_t n, const Body& body, const Tail& tail) {
  int64_t c = 0;
  for (; c + W <= n; c += W) body(c);
  for (; c < n; ++c) tail(c);
}

template <class T>
KVLAB_HD T* row_of(T* rows, int64_t r, int64_t width) {
  return rows == nullptr ? nullptr : rows + r * width;
}

void norm(const NormRows& a) {
  const float one = a.one_plus ? 1.0f : 0.0f;
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.width;
    const uint16_t* delta = row_of(a.delta, r, a.width);
    F<W> squares{};
    float square = 0;
    if (a.delta != nullptr) {
      float* sum = a.sum + r * a.width;
      over(
          a.width,
          [&](int64_t c) {
            const F<W> v = load_f32<W>(x + c) + load_bf16<W>(delta + c);
            store_f32<W>(sum + c, v);
            squares = fma<W>(v, v, squares);
          },
          [&](int64_t c) {
            sum[c] = x[c] + bf16_value(delta[c]);
            square += sum[c] * sum[c];
          });
      x = sum;
    } else {
      over(
          a.width,
          [&](int64_t c) {
            const F<W> v = load_f32<W>(x + c);
            squares = fma<W>(v, v, squares);
          },
          [&](int64_t c) { square += x[c] * x[c]; });
    }
    const float mean = (add_lanes<W>(squares) + square) / static_cast<float>(a.width);
    const float scale = a.scale[r] = 1.0f / std::sqrt(mean + a.eps);
    uint16_t* out = a.out + r * a.width;
    over(
        a.width,
        [&](int64_t c) {
          const F<W> gain = load_f32<W>(a.weight + c) + splat<W>(one);
          store_rounded<W>(out + c, load_f32<W>(x + c) * splat<W>(scale) * gain);
        },
        [&](int64_t c) { out[c] = bf16_bits(x[c] * scale * (a.weight[c] + one)); });
  }
}

void norm_backward(const NormRowsBackward& a) {
  const float one = a.one_plus ? 1.0f : 0.0f;
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.sum + r * a.width;
    const uint16_t* dout = a.dout + r * a.width;
    const float scale = a.scale[r];
    F<W> dots{};
    float dot = 0;
    over(
        a.width,
        [&](int64_t c) {
          const F<W> d = load_bf16<W>(dout + c), v = load_f32<W>(x + c);
          dots = fma<W>(d * (load_f32<W>(a.weight + c) + splat<W>(one)), v, dots);
          store_f32<W>(a.dweight + c, fma<W>(d * splat<W>(scale), v, load_f32<W>(a.dweight + c)));
        },
        [&](int64_t c) {
          const float d = bf16_value(dout[c]);
          dot += d * (a.weight[c] + one) * x[c];
          a.dweight[c] += d * scale * x[c];
        });
    const float along =
        (add_lanes<W>(dots) + dot) * scale * scale * scale / static_cast<float>(a.width);
    float* dx = a.dx + r * a.width;
    const float* dsum = row_of(a.dsum, r, a.width);
    uint16_t* ddelta = row_of(a.ddelta, r, a.width);
    over(
        a.width,
        [&](int64_t c) {
          const F<W> gain = load_f32<W>(a.weight + c) + splat<W>(one);
          F<W> d = load_bf16<W>(dout + c) * gain * splat<W>(scale) -
                   load_f32<W>(x + c) * splat<W>(along);
          if (a.dsum != nullptr) d = d + load_f32<W>(dsum + c);
          store_f32<W>(dx + c, d);
          if (a.ddelta != nullptr) store_rounded<W>(ddelta + c, d);
        },
        [&](int64_t c) {
          float d = bf16_value(dout[c]) * (a.weight[c] + one) * scale - x[c] * along;
          if (a.dsum != nullptr) d += dsum[c];
          dx[c] = d;
          if (a.ddelta != nullptr) ddelta[c] = bf16_bits(d);
        });
  }
}

/// 1 / (1 + e^-x)
template <int N>
KVLAB_HD F<N> sigmoid(F<N> x) {
  const F<N> power = min<N>(x * splat<N>(-kLog2E), splat<N>(126.0f));
  return splat<N>(1.0f) / (splat<N>(1.0f) + exp2<N>(power));
}

template <int N>
KVLAB_HD void gate_at(const GateRows& a, int64_t r, int64_t c) {
  const uint16_t* gate = a.gate_up + r * 2 * a.width + c;
  const F<N> g = load_bf16<N>(gate), u = load_bf16<N>(gate + a.width);
  store_rounded<N>(a.out + r * a.width + c, g * sigmoid<N>(g) * u);
}

template <int N>
KVLAB_HD void gate_backward_at(const GateRows& a, int64_t r, int64_t c) {
  const uint16_t* gate = a.gate_up + r * 2 * a.width + c;
  uint16_t* dgate = a.dgate_up + r * 2 * a.width + c;
  const F<N> g = load_bf16<N>(gate), u = load_bf16<N>(gate + a.width);
  const F<N> d = load_bf16<N>(a.dout + r * a.width + c);
  const F<N> s = sigmoid<N>(g);
  store_rounded<N>(dgate, d * u * s * (splat<N>(1.0f) + g * (splat<N>(1.0f) - s)));
  store_rounded<N>(dgate + a.width, d * g * s);
}

void gate(const GateRows& a) {
  for (int64_t r = 0; r < a.rows; ++r)
    over(a.width, [&](int64_t c) { gate_at<W>(a, r, c); }, [&](int64_t c) { gate_at<1>(a, r, c); });
}

void gate_backward(const GateRows& a) {
  for (int64_t r = 0; r < a.rows; ++r)
    over(
        a.width, [&](int64_t c) { gate_backward_at<W>(a, r, c); },
        [&](int64_t c) { gate_backward_at<1>(a, r, c); });
}

double loss(const LossRows& a) {
  double total = 0;
  for (int64_t r = 0; r < a.rows; ++r) {
    uint16_t* logits = a.logits + r * a.width;
    F<W> tops = splat<W>(-3.4e38f);
    float top = -3.4e38f;
    over(
        a.width, [&](int64_t c) { tops = max<W>(load_bf16<W>(logits + c), tops); },
        [&](int64_t c) { top = std::max(top, bf16_value(logits[c])); });
    for (int i = 0; i < W; ++i) top = std::max(top, tops[i]);
    const auto power = [&]<int N>(int64_t c) KVLAB_ALWAYS_INLINE {
      return exp2<N>((load_bf16<N>(logits + c) - splat<N>(top)) * splat<N>(kLog2E));
    };
    F<W> sums{};
    float sum = 0;
    over(
        a.width, [&](int64_t c) { sums = sums + power.template operator()<W>(c); },
        [&](int64_t c) { sum += power.template operator()<1>(c)[0]; });
    sum += add_lanes<W>(sums);
    const int64_t target = a.targets[r];
    const float weight = a.weights[r];
    total += static_cast<double>(weight) *
             (std::log(static_cast<double>(sum)) + static_cast<double>(top) -
              static_cast<double>(bf16_value(logits[target])));
    if (!a.gradient) continue;
    const float share = weight / sum;
    const float at_target = power.template operator()<1>(target)[0] * share - weight;
    over(
        a.width,
        [&](int64_t c) {
          store_rounded<W>(logits + c, power.template operator()<W>(c) * splat<W>(share));
        },
        [&](int64_t c) { logits[c] = bf16_bits(power.template operator()<1>(c)[0] * share); });
    logits[target] = bf16_bits(at_target);
  }
  return total;
}

}  // namespace

extern const TrainLoops kTrainLoops;
const TrainLoops kTrainLoops{&norm,          &norm_backward,     &gate, &gate_backward, &loss,
                             kAttention.run, kAttention.backward};

}  // namespace kvlab::inline KVLAB_TARGET
