// kernels/attention_steps.h, compiled once per instruction set.

#include "kernels/attention_steps.h"

#include "kernels/exp.h"
#include "kernels/hadamard_rows.h"
#include "kernels/lanes.h"

namespace kvlab::inline KVLAB_TARGET {
namespace {

constexpr int W = kLanes;
constexpr float kInfinity = __builtin_huge_valf();
constexpr float kLowest = -3.402823466e38f;
constexpr float kLog2E = 1.442695041f;

KVLAB_HD I<W> lane_numbers() {
  I<W> lane;
  for (int i = 0; i < W; ++i) lane[i] = i;
  return lane;
}
KVLAB_HD float max_lane(F<W> v) {
  float m = v[0];
  for (int i = 1; i < W; ++i) m = v[i] > m ? v[i] : m;
  return m;
}
KVLAB_HD I<W> splat_int(int32_t x) { return x + I<W>{}; }
KVLAB_HD I<W> load_int(const int32_t* p) { return load_as<I<W>>(p); }

/// What is the same for all rows of a block.
struct Logits {
  const SoftmaxBlock& a;
  bool plain;  // scale and nothing else
  float scale;

  explicit Logits(const SoftmaxBlock& block)
      : a(block),
        plain(!a.bias && !a.slope && !a.key_scale && !a.distance_bias && !a.from && a.softcap <= 0),
        scale(a.softcap > 0 ? a.scale : a.scale * kLog2E) {}

  /// Lanes [t, t + W) of row r in base 2; -infinity from `tokens` on.
  KVLAB_HD F<W> at(int r, int t, const float* scores) const {
    F<W> x = load_f32<W>(scores + t);
    if (plain)
      x = x * splat<W>(scale);
    else
      x = full(r, t, x);
    if (t + W > a.tokens) x = lane_numbers() < a.tokens - t ? x : splat<W>(-kInfinity);
    return x;
  }

 private:
  KVLAB_HD F<W> full(int r, int t, F<W> x) const {
    if (a.key_scale) x = x * some(a.key_scale, t);
    if (a.bias) x = x + splat<W>(a.bias[r]);
    x = x * splat<W>(scale);
    if (a.slope) {
      const float slope = a.softcap > 0 ? a.slope[r] : a.slope[r] * kLog2E;
      const I<W> distance = load_int(a.position + t) - splat_int(a.query_position[r]);
      x = fma<W>(splat<W>(slope), __builtin_convertvector(distance, F<W>), x);
    }
    if (a.distance_bias) {
      const F<W> bias = bias_of(r, t);
      x = x + (a.softcap > 0 ? bias : bias * splat<W>(kLog2E));
    }
    if (a.softcap > 0) x = tanh<W>(x * splat<W>(1.0f / a.softcap)) * splat<W>(a.softcap * kLog2E);
    if (a.from) {
      const I<W> q = splat_int(a.query_position[r]);
      I<W> visible = (load_int(a.from + t) <= q) & (q <= load_int(a.until + t));
      if (a.window_left >= 0)
        visible = visible & (load_int(a.position + t) >= q - splat_int(a.window_left));
      x = visible ? x : splat<W>(-kInfinity);
    }
    return x;
  }
  /// Rows that are hidden may lie behind the query: their distance counts as 0.
  KVLAB_HD F<W> bias_of(int r, int t) const {
    const I<W> nearest{}, farthest = splat_int(a.distances - 1);
    I<W> entry = splat_int(a.seen_from[r]) - load_int(a.position + t);
    entry = entry < farthest ? entry : farthest;
    entry = entry > nearest ? entry : nearest;
    F<W> bias;
    for (int i = 0; i < W; ++i) bias[i] = a.distance_bias[r][entry[i]];
    return bias;
  }
  KVLAB_HD F<W> some(const float* p, int t) const {
    return t + W <= a.tokens ? load_f32<W>(p + t) : load_some<W>(p + t, a.tokens - t);
  }
};

void softmax(const SoftmaxBlock& a) {
  const Logits logits(a);
  const int end = round_up(a.tokens, 16);
  for (int r = 0; r < a.rows; ++r) {
    float* x = a.scores + r * a.stride;
    F<W> largest = splat<W>(-kInfinity);
    for (int t = 0; t < a.tokens; t += W) {
      const F<W> v = logits.at(r, t, x);
      store_f32<W>(x + t, v);
      largest = max<W>(v, largest);
    }
    const float before = a.max[r], here = max_lane(largest);
    const float now = here > before ? here : before;
    const float base =
        now > kLowest ? now : kLowest;  // all masked: exp2(-inf - base) is 0, not NaN
    F<W> sum{};
    int t = 0;
    for (; t < a.tokens; t += W) {
      const F<W> w = exp2<W>(load_f32<W>(x + t) - splat<W>(base));
      store_f32<W>(x + t, w);
      sum = sum + w;
    }
    for (; t < end; t += W) store_f32<W>(x + t, F<W>{});
    const float factor = exp2<W>(splat<W>(before - base))[0];
    a.max[r] = now;
    a.factor[r] = factor;
    a.sum[r] = a.sum[r] * factor + add_lanes<W>(sum);
  }
}

void mass(const MassBlock& m) {
  const SoftmaxBlock& a = m.block;
  const Logits logits(a);
  for (int r = 0; r < a.rows; ++r) {
    const float* x = a.scores + r * a.stride;
    const float base = a.max[r] > kLowest ? a.max[r] : kLowest;
    float* to = m.mass + m.column[r];
    for (int t = m.first; t < m.first + m.tokens; t += W) {
      const F<W> p = exp2<W>(logits.at(r, t, x) - splat<W>(base));
      for (int i = 0; i < W && t + i < m.first + m.tokens; ++i) {
        float& cell = to[(t + i - m.first) * m.mass_stride];
        cell = m.take_max ? (p[i] > cell ? p[i] : cell) : cell + p[i];
      }
    }
  }
}

/// cos and sin of a sum of two angles.
template <int V>
KVLAB_HD void add_angles(const float* a, const float* b, int pairs, int c, F<V>* cosine,
                         F<V>* sine) {
  const F<V> ca = load_f32<V>(a + c), sa = load_f32<V>(a + pairs + c);
  const F<V> cb = load_f32<V>(b + c), sb = load_f32<V>(b + pairs + c);
  *cosine = fma<V>(ca, cb, -(sa * sb));
  *sine = fma<V>(sa, cb, ca * sb);
}

template <int V>
KVLAB_HD void turn(const RotateRows& a, const float* fine, const float* coarse, int c, float* row) {
  F<V> cosine, sine;
  add_angles<V>(fine, coarse, a.pairs, c, &cosine, &sine);
  if (a.interleaved) {
    for (int i = 0; i < V; ++i) {
      float* x = row + 2 * (c + i);
      const float x0 = x[0], x1 = x[1];
      x[0] = __builtin_fmaf(x0, cosine[i], -(x1 * sine[i]));
      x[1] = __builtin_fmaf(x1, cosine[i], x0 * sine[i]);
    }
  } else {
    const F<V> x0 = load_f32<V>(row + c), x1 = load_f32<V>(row + a.pairs + c);
    store_f32<V>(row + c, fma<V>(x0, cosine, -(x1 * sine)));
    store_f32<V>(row + a.pairs + c, fma<V>(x1, cosine, x0 * sine));
  }
}

void rotate(const RotateRows& a) {
  for (int r = 0; r < a.rows; ++r) {
    const int position = a.positions[r];
    const float* fine = a.fine + int64_t{position & 63} * 2 * a.pairs;
    const float* coarse = a.coarse + int64_t{position >> 6} * 2 * a.pairs;
    float* row = a.data + r * a.stride;
    int c = 0;
    for (; c + W <= a.pairs; c += W) turn<W>(a, fine, coarse, c, row);
    for (; c < a.pairs; ++c) turn<1>(a, fine, coarse, c, row);
  }
}

template <int V>
KVLAB_HD F<V> load_dtype(const void* p, int dtype, int64_t i) {
  const u8* at = static_cast<const u8*>(p);
  if (dtype == 1) return load_f16<V>(at + 2 * i);
  if (dtype == 2) return load_bf16<V>(at + 2 * i);
  return load_f32<V>(at + 4 * i);
}
template <int V>
KVLAB_HD void store_dtype(void* p, int dtype, int64_t i, F<V> v) {
  u8* at = static_cast<u8*>(p);
  if (dtype == 1) return store_f16<V>(at + 2 * i, v);
  if (dtype == 2) return store_bf16<V>(at + 2 * i, v);
  store_f32<V>(at + 4 * i, v);
}

void load(const ConvertRow& a) {
  if (a.dtype == 3) {
    for (int64_t i = 0; i < a.count; ++i)
      a.floats[i] = static_cast<float>(static_cast<const double*>(a.data)[i]);
    return;
  }
  int64_t i = 0;
  for (; i + 8 <= a.count; i += 8) store_f32<8>(a.floats + i, load_dtype<8>(a.data, a.dtype, i));
  for (; i < a.count; ++i) store_f32<1>(a.floats + i, load_dtype<1>(a.data, a.dtype, i));
}

void store(const ConvertRow& a) {
  if (a.dtype == 3) {
    for (int64_t i = 0; i < a.count; ++i) static_cast<double*>(a.data)[i] = a.floats[i];
    return;
  }
  int64_t i = 0;
  for (; i + 8 <= a.count; i += 8) store_dtype<8>(a.data, a.dtype, i, load_f32<8>(a.floats + i));
  for (; i < a.count; ++i) store_dtype<1>(a.data, a.dtype, i, load_f32<1>(a.floats + i));
}

void blend(float* to, float a, const float* from, float b, int64_t count) {
  int64_t i = 0;
  for (; i + W <= count; i += W)
    store_f32<W>(to + i,
                 fma<W>(load_f32<W>(from + i), splat<W>(b), load_f32<W>(to + i) * splat<W>(a)));
  for (; i < count; ++i) to[i] = __builtin_fmaf(from[i], b, to[i] * a);
}

void hadamard(float* data, int64_t stride, int32_t rows, int32_t width, bool inverse) {
  for (int r = 0; r < rows; ++r)
    inverse ? hadamard_back(data + r * stride, width) : hadamard_forth(data + r * stride, width);
}

}  // namespace

extern const AttentionSteps kAttentionSteps;
const AttentionSteps kAttentionSteps{&softmax, &mass, &rotate, &load, &store, &blend, &hadamard};

}  // namespace kvlab::inline KVLAB_TARGET
