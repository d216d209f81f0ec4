#pragma once
// The only loops over tiles: from a codec's hooks to the C functions of kernels/codec_kernels.h.
// Included by one file per codec and instruction set, which the build writes (KvlabKernels.cmake).
//
// Scores.  kLanes accumulators: R queries against T = kLanes / R rows at a time, one decode of a
// row serving R queries, then one tree of sums gives kLanes scores.  Values: R queries x V vectors
// of features stay in registers over all rows of the tile.  Above kDirectRows queries a tile is
// first decoded to float32 in scratch, once.
//
// A codec may bring faster forms of both, which take some calls and leave the others:
//   struct Dots { static constexpr const char* kHow;
//                 static bool takes(const Params&, int first_feature, int features, int queries);
//                 static int64_t query_bytes(const Params&, int features, int queries);
//                 static void prepare(const PrepareQueries&);
//                 static int64_t scratch_bytes(const Params&, int features, int queries, int rows);
//                 static void run(const ScoreTile&); };
//   struct Sums { kHow, takes, scratch_bytes; static void run(const ValueTile&); };

#include <new>

#include "kernels/codec.h"
#include "kernels/codecs/float.h"
#include "kernels/lanes.h"

namespace kvlab::inline KVLAB_TARGET {

inline constexpr int kDirectRows = 4;

template <class C>
KVLAB_HD const typename C::Params& params_of(const void* params) {
  return *static_cast<const typename C::Params*>(params);
}
template <class C>
KVLAB_HD typename C::State& state_of(const TilePart& part) {
  return *static_cast<typename C::State*>(part.state);
}

// --- decode ------------------------------------------------------------------------------------

/// Features [c, c + n) of a row, n < W, the other lanes 0.
template <class C, int W>
KVLAB_HD F<W> decode_some(const typename C::Params& p, const Tile& t, int row, int c, int n,
                          const typename C::State& state) {
  float v[W] = {};
  int i = 0;
  if (W >= 8 && c % 8 == 0)
    for (; i + 8 <= n && i + 8 <= W; i += 8)
      store_f32<8>(v + i, C::template decode<8>(p, t, row, c + i, state));
  for (; i < n; ++i) store_f32<1>(v + i, C::template decode<1>(p, t, row, c + i, state));
  return load_f32<W>(v);
}

template <class C>
void decode_channels(const TilePart& part, const typename C::State& state, float* to,
                     int64_t stride) {
  constexpr int W = 8;
  const auto& p = params_of<C>(part.params);
  const int end = part.first_row + part.rows;
  for (int t0 = part.first_row / W * W; t0 < end; t0 += W)
    for (int c = 0; c < part.features; ++c) {
      float x[W];
      store_f32<W>(x, C::template decode<W>(p, part.tile, t0, part.first_feature + c, state));
      for (int t = t0 > part.first_row ? t0 : part.first_row; t < end && t < t0 + W; ++t)
        to[(t - part.first_row) * stride + c] = x[t - t0];
    }
}

/// read: which rows; null: all.
template <class C>
void decode_rows(const TilePart& part, const typename C::State& state, const u8* read, float* to,
                 int64_t stride) {
  constexpr int W = kLanes;
  const auto& p = params_of<C>(part.params);
  const int whole = part.first_feature % W == 0 ? part.features / W * W : 0;
  for (int r = 0; r < part.rows; ++r, to += stride) {
    if (read != nullptr && !read[r]) continue;
    const int row = part.first_row + r;
    for (int c = 0; c < whole; c += W)
      store_f32<W>(to + c, C::template decode<W>(p, part.tile, row, part.first_feature + c, state));
    for (int c = whole; c < part.features; c += W) {
      const int n = part.features - c < W ? part.features - c : W;
      store_some<W>(to + c, decode_some<C, W>(p, part.tile, row, part.first_feature + c, n, state),
                    n);
    }
  }
}

// --- scores ------------------------------------------------------------------------------------

/// q: float32, rows padded with zeros to whole vectors; part.first_feature a multiple of kLanes.
template <class C, int R>
void score_queries(const TilePart& part, const typename C::State& state, const float* q,
                   int64_t q_stride, float* out, int64_t out_stride, Prefetch& ahead) {
  constexpr int W = kLanes, T = W / R;
  const auto& p = params_of<C>(part.params);
  const int whole = part.features / W * W, rest = part.features - whole;
  for (int t0 = 0; t0 < part.rows; t0 += T) {
    int row[T];  // beyond the end: the last row again, not stored
    for (int t = 0; t < T; ++t)
      row[t] = part.first_row + (t0 + t < part.rows ? t0 + t : part.rows - 1);
    F<W> sums[W] = {};
    for (int c = 0; c < whole; c += W)
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        ahead.next();
        const F<W> key = C::template decode<W>(p, part.tile, row[t], part.first_feature + c, state);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
          sums[r * T + t] = fma<W>(load_f32<W>(q + r * q_stride + c), key, sums[r * T + t]);
      }
    if (rest > 0)
      for (int t = 0; t < T; ++t) {
        const F<W> key =
            decode_some<C, W>(p, part.tile, row[t], part.first_feature + whole, rest, state);
        for (int r = 0; r < R; ++r)
          sums[r * T + t] = fma<W>(load_f32<W>(q + r * q_stride + whole), key, sums[r * T + t]);
      }
    float scores[W];
    store_f32<W>(scores, sum_each(sums));
    const int n = part.rows - t0 < T ? part.rows - t0 : T;
    for (int r = 0; r < R; ++r) __builtin_memcpy(out + r * out_stride + t0, scores + r * T, 4 * n);
  }
}

template <class C>
void score_direct(const TilePart& part, const typename C::State& state, const float* q,
                  int64_t q_stride, int queries, float* out, int64_t out_stride,
                  const Ahead& next) {
  Prefetch ahead(next, part.rows,
                 int64_t{part.rows} * query_passes(queries) * (part.features / kLanes));
  const auto some = [&]<int R>(int r) {
    score_queries<C, R>(part, state, q + r * q_stride, q_stride, out + r * out_stride, out_stride,
                        ahead);
    return r + R;
  };
  int r = 0;
  while (queries - r >= 4) r = some.template operator()<4>(r);
  if (queries - r >= 2) r = some.template operator()<2>(r);
  if (queries - r >= 1) some.template operator()<1>(r);
}

/// Channel-major: a block of rows stays in registers while features go by.
template <class C>
void score_channels(const TilePart& part, const typename C::State& state, const float* q,
                    int64_t q_stride, int queries, float* out, int64_t out_stride) {
  constexpr int W = 8, V = 8;
  const auto& p = params_of<C>(part.params);
  const int end = part.first_row + part.rows;
  for (int r = 0; r < queries; ++r)
    for (int t0 = part.first_row / W * W; t0 < end; t0 += V * W) {
      F<W> sums[V] = {};
      const int n = end - t0 < V * W ? (end - t0 + W - 1) / W : V;
      for (int c = 0; c < part.features; ++c) {
        if constexpr (requires { C::skip(p, c, state); })
          if (C::skip(p, part.first_feature + c, state)) continue;
        const F<W> x = splat<W>(q[r * q_stride + c]);
        for (int v = 0; v < n; ++v)
          sums[v] = fma<W>(
              x, C::template decode<W>(p, part.tile, t0 + v * W, part.first_feature + c, state),
              sums[v]);
      }
      float scores[V * W];
      for (int v = 0; v < n; ++v) store_f32<W>(scores + v * W, sums[v]);
      for (int t = t0 > part.first_row ? t0 : part.first_row; t < end && t < t0 + n * W; ++t)
        out[r * out_stride + t - part.first_row] = scores[t - t0];
    }
}

// --- values ------------------------------------------------------------------------------------

template <int R>
KVLAB_HD bool is_weighed(const float* weights, int64_t stride) {
  bool any = false;
  for (int r = 0; r < R; ++r) any |= weights[r * stride] != 0.0f;
  return any;
}

/// sums: rows padded to whole vectors.  read: which rows; null: all.  A row that no query of the
/// call weighs is left alone, so that what masked rows hold, NaN too, is never seen.
template <class C, int R, int V>
KVLAB_HD void add_values(const TilePart& part, const typename C::State& state, const float* weights,
                         int64_t weight_stride, const u8* read, int c, float* sums,
                         int64_t sum_stride, Prefetch& ahead) {
  constexpr int W = kLanes;
  const auto& p = params_of<C>(part.params);
  const bool whole = c + V * W <= part.features;
  F<W> acc[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) acc[r][v] = load_f32<W>(sums + r * sum_stride + c + v * W);
  for (int t = 0; t < part.rows; ++t) {
    ahead.next();
    if (!is_weighed<R>(weights + t, weight_stride) || (read != nullptr && !read[t])) continue;
    const int row = part.first_row + t;
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const int feature = part.first_feature + c + v * W;
      const F<W> value =
          V > 1 || whole ? C::template decode<W>(p, part.tile, row, feature, state)
                         : decode_some<C, W>(p, part.tile, row, feature, part.features - c, state);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
        acc[r][v] = fma<W>(splat<W>(weights[r * weight_stride + t]), value, acc[r][v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) store_f32<W>(sums + r * sum_stride + c + v * W, acc[r][v]);
}

/// The same of float32 rows side by side, all of them weighed: a decoded block, without a question
/// per row.
template <int R, int V>
KVLAB_HD void add_decoded(const u8* rows, int64_t stride, int n, const float* weights,
                          int64_t weight_stride, float* sums, int64_t sum_stride, Prefetch& ahead) {
  constexpr int W = kLanes;
  F<W> acc[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) acc[r][v] = load_f32<W>(sums + r * sum_stride + v * W);
  Prefetch fetch = ahead;
  for (int t = 0; t < n; ++t, rows += stride) {
    fetch.next();
    F<W> value[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) value[v] = load_f32<W>(rows + 4 * v * W);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F<W> weight = splat<W>(weights[r * weight_stride + t]);
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) acc[r][v] = fma<W>(weight, value[v], acc[r][v]);
    }
  }
  ahead = fetch;
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) store_f32<W>(sums + r * sum_stride + v * W, acc[r][v]);
}

/// Whether some query weighs each of n rows.
template <int R>
KVLAB_HD bool all_weighed(const float* weights, int64_t stride, int n) {
  float least = 1.0f;
  for (int t = 0; t < n; ++t) {
    float all = 0.0f;
    for (int r = 0; r < R; ++r) all += __builtin_fabsf(weights[r * stride + t]);
    least = all < least ? all : least;
  }
  return least > 0.0f;
}

/// Vectors of features whose sums stay in registers for so many queries.
constexpr int value_vectors(int queries) {
  return (kLanes == 16 ? 16 : 8) / (queries == 1 ? 2 : queries);
}
/// How often rows are read.
constexpr int value_passes(int features, int queries) {
  const auto once = [&](int at_once) {
    const int wide = value_vectors(at_once) * kLanes;
    return features / wide + (features % wide + kLanes - 1) / kLanes;
  };
  return queries / 4 * once(4) + queries % 4 / 2 * once(2) + queries % 2 * once(1);
}

template <class C>
void value_direct(const TilePart& part, const typename C::State& state, const float* weights,
                  int64_t weight_stride, const u8* read, int queries, float* sums,
                  int64_t sum_stride, const Ahead& next) {
  constexpr int W = kLanes;
  Prefetch ahead(next, part.rows, int64_t{part.rows} * value_passes(part.features, queries));
  const u8* const rows = part.tile.plane[0] + part.first_row * part.tile.stride[0];
  const auto some = [&]<int R>(int r) {
    constexpr int V = value_vectors(R);
    const float* w = weights + r * weight_stride;
    float* s = sums + r * sum_stride;
    int c = 0;
    if constexpr (kIsSame<C, Fp32>)
      if (read == nullptr && all_weighed<R>(w, weight_stride, part.rows))
        for (; c + V * W <= part.features; c += V * W)
          add_decoded<R, V>(rows + 4 * (part.first_feature + c), part.tile.stride[0], part.rows, w,
                            weight_stride, s + c, sum_stride, ahead);
    for (; c + V * W <= part.features; c += V * W)
      add_values<C, R, V>(part, state, w, weight_stride, read, c, s, sum_stride, ahead);
    for (; c < part.features; c += W)
      add_values<C, R, 1>(part, state, w, weight_stride, read, c, s, sum_stride, ahead);
    return r + R;
  };
  int r = 0;
  while (queries - r >= 4) r = some.template operator()<4>(r);
  if (queries - r >= 2) r = some.template operator()<2>(r);
  if (queries - r >= 1) some.template operator()<1>(r);
}

/// Channel-major: one feature at a time over all rows.
template <class C>
void value_channels(const ValueTile& a, const typename C::State& state, const u8* read) {
  constexpr int W = 8;
  const TilePart& part = a.part;
  const auto& p = params_of<C>(part.params);
  const int end = part.first_row + part.rows;
  for (int r = 0; r < a.rows; ++r)
    for (int t0 = part.first_row / W * W; t0 < end; t0 += W) {
      float w[W] = {};
      for (int t = t0 > part.first_row ? t0 : part.first_row; t < end && t < t0 + W; ++t)
        if (read == nullptr || read[t - part.first_row])
          w[t - t0] = a.weights[r * a.weight_stride + t - part.first_row];
      const F<W> weights = load_f32<W>(w), zero = splat<W>(0.0f);
      for (int c = 0; c < part.features; ++c) {
        const F<W> x = C::template decode<W>(p, part.tile, t0, part.first_feature + c, state);
        a.sums[r * a.sum_stride + c] += add_lanes<W>(weights != zero ? weights * x : zero);
      }
    }
}

// --- the table ---------------------------------------------------------------------------------

template <class C>
struct Table {
  using Params = typename C::Params;
  using State = typename C::State;
  static constexpr bool kDots = requires { sizeof(typename C::Dots); };
  static constexpr bool kSums = requires { sizeof(typename C::Sums); };
  static constexpr bool kWeighs =
      requires(const Params& p, const Tile& t, State& s) { C::weigh(p, t, 0, 0.0f, s); };
  static constexpr int kIsFp32 = kIsSame<C, Fp32>;
  static constexpr int kMaxRows = 512;  // of a part

  static int32_t state_bytes() { return sizeof(State); }

  static void begin(const void* params, const Item& item, void* state) {
    State* s = ::new (state) State{};
    if constexpr (requires { C::begin(params_of<C>(params), item, *s); })
      C::begin(params_of<C>(params), item, *s);
  }

  static bool dots_take(const void* params, int first, int features, int queries) {
    if constexpr (kDots) return C::Dots::takes(params_of<C>(params), first, features, queries);
    return false;
  }
  static bool sums_take(const void* params, int first, int features, int queries) {
    if constexpr (kSums) return C::Sums::takes(params_of<C>(params), first, features, queries);
    return false;
  }

  /// Rows are decoded to scratch first: many queries share them, or vectors would straddle.
  static bool through_scratch(int first_feature, int queries) {
    return C::kMajor == Major::token && !kIsFp32 &&
           (queries > kDirectRows || first_feature % kLanes != 0);
  }

  static int64_t query_bytes(const void* params, int32_t features, int32_t queries) {
    int64_t bytes = int64_t{4} * round_up(features, 16) * queries;
    if constexpr (kDots) {
      const int64_t dots = C::Dots::query_bytes(params_of<C>(params), features, queries);
      bytes = dots > bytes ? dots : bytes;
    }
    return bytes;
  }

  static void prepare(const PrepareQueries& a) {
    if constexpr (kDots)
      if (dots_take(a.params, a.first_feature, a.features, a.rows)) return C::Dots::prepare(a);
    const int stride = round_up(a.features, 16);
    float* to = reinterpret_cast<float*>(a.to);
    for (int r = 0; r < a.rows; ++r)
      for (int c = 0; c < stride; ++c)
        to[int64_t{r} * stride + c] = c < a.features ? a.queries[r * a.stride + c] : 0.0f;
  }

  static int64_t scratch_bytes(const void* params, int32_t features, int32_t queries,
                               int32_t rows) {
    int64_t bytes = int64_t{4} * round_up(features, 16) * rows;
    if constexpr (kDots) {
      const int64_t n = C::Dots::scratch_bytes(params_of<C>(params), features, queries, rows);
      bytes = n > bytes ? n : bytes;
    }
    if constexpr (kSums) {
      const int64_t n = C::Sums::scratch_bytes(params_of<C>(params), features, queries, rows);
      bytes = n > bytes ? n : bytes;
    }
    return bytes;
  }

  static void enter(const TilePart& part) {
    if constexpr (requires(State& s) { C::enter(params_of<C>(part.params), part.tile, s); })
      C::enter(params_of<C>(part.params), part.tile, state_of<C>(part));
  }

  /// What `bytes` says, or the share of the tile's bytes that the part is.
  static int64_t bytes_read(const TilePart& part) {
    const auto& p = params_of<C>(part.params);
    if constexpr (requires { C::bytes(p, part.tile, state_of<C>(part)); }) {
      return C::bytes(p, part.tile, state_of<C>(part));
    } else {
      const Planes planes = C::planes(p);
      int64_t total = 0;
      for (int i = 0; i < planes.count; ++i)
        total += int64_t{planes.plane[i].row_bytes} * part.rows +
                 int64_t{planes.plane[i].tile_bytes} * part.rows / C::tile_rows(p);
      return total * part.features / p.width;
    }
  }

  static int64_t score(const ScoreTile& a) {
    enter(a.part);
    const float* q = reinterpret_cast<const float*>(a.prepared);
    const int stride = round_up(a.part.features, 16);
    if constexpr (C::kMajor == Major::channel) {
      score_channels<C>(a.part, state_of<C>(a.part), q, stride, a.rows, a.out, a.out_stride);
    } else if (dots_take(a.part.params, a.part.first_feature, a.part.features, a.rows)) {
      if constexpr (kDots) C::Dots::run(a);
    } else if (through_scratch(a.part.first_feature, a.rows)) {
      decode_rows<C>(a.part, state_of<C>(a.part), nullptr, reinterpret_cast<float*>(a.scratch),
                     stride);
      score_direct<Fp32>(in_scratch(a.part, a.scratch, stride), NoState{}, q, stride, a.rows, a.out,
                         a.out_stride, a.ahead);
    } else {
      score_direct<C>(a.part, state_of<C>(a.part), q, stride, a.rows, a.out, a.out_stride, a.ahead);
    }
    return bytes_read(a.part);
  }

  static int64_t value(const ValueTile& a) {
    enter(a.part);
    u8 flags[kMaxRows];
    const u8* read = nullptr;
    if constexpr (kWeighs) {
      for (int t = 0; t < a.part.rows; ++t)
        flags[t] = C::weigh(params_of<C>(a.part.params), a.part.tile, a.part.first_row + t,
                            a.bounds[t], state_of<C>(a.part));
      read = flags;
    }
    if constexpr (C::kMajor == Major::channel) {
      value_channels<C>(a, state_of<C>(a.part), read);
    } else if (sums_take(a.part.params, a.part.first_feature, a.part.features, a.rows)) {
      if constexpr (kSums) C::Sums::run(a);
    } else if (through_scratch(a.part.first_feature, a.rows)) {
      for (int c = 0; c < a.part.features; c += kSlice) {
        TilePart slice = a.part;
        slice.first_feature += c;
        slice.features = a.part.features - c < kSlice ? a.part.features - c : kSlice;
        const int stride = round_up(slice.features, 16);
        decode_rows<C>(slice, state_of<C>(a.part), read, reinterpret_cast<float*>(a.scratch),
                       stride);
        value_direct<Fp32>(in_scratch(slice, a.scratch, stride), NoState{}, a.weights,
                           a.weight_stride, read, a.rows, a.sums + c, a.sum_stride,
                           ahead_of(a.ahead, a.part, c, slice.features));
      }
    } else {
      value_direct<C>(a.part, state_of<C>(a.part), a.weights, a.weight_stride, read, a.rows, a.sums,
                      a.sum_stride, a.ahead);
    }
    return bytes_read(a.part);
  }

  static void decode(const DecodeTile& a) {
    const State fresh{};
    const State& state = a.part.state == nullptr ? fresh : state_of<C>(a.part);
    if constexpr (C::kMajor == Major::channel)
      decode_channels<C>(a.part, state, a.to, a.stride);
    else
      decode_rows<C>(a.part, state, nullptr, a.to, a.stride);
  }

  static int64_t encode(const EncodeRows& a) {
    const auto& p = params_of<C>(a.params);
    const int step = C::tile_rows(p);
    int64_t refused = 0;
    for (int r = 0; r < a.tile.rows; r += step)
      for (int part = 0; part < C::parts(p); ++part)
        refused += C::encode(p, a.rows, a.tile, r, part) ? 0 : 1;
    return refused;
  }

  static float error(const void* params, const void* state) {
    if constexpr (requires(const State& s) { C::error(params_of<C>(params), s); })
      return C::error(params_of<C>(params), *static_cast<const State*>(state));
    return 0.0f;
  }

  static constexpr const char* score_how() {
    if constexpr (kDots) return C::Dots::kHow;
    return "decode";
  }
  static constexpr const char* value_how() {
    if constexpr (kSums) return C::Sums::kHow;
    return "decode";
  }

 private:
  /// Features of values that are decoded at once, for all queries: so few that 256 rows of them
  /// stay in a core's second cache while the queries go by, also where a row is all heads' (4096).
  static constexpr int kSlice = 128;

  /// What a slice fetches ahead of its part's share.
  static Ahead ahead_of(const Ahead& next, const TilePart& part, int first, int features) {
    Ahead share = next;
    share.at += int64_t{part.rows} * next.step * first / part.features;
    share.step = static_cast<int32_t>(int64_t{next.step} * features / part.features);
    return share;
  }

  static TilePart in_scratch(const TilePart& part, u8* scratch, int stride) {
    TilePart rows{};
    static constexpr FloatParams kAnyWidth{};
    rows.params = &kAnyWidth;
    rows.tile.plane[0] = scratch;
    rows.tile.stride[0] = int64_t{4} * stride;
    rows.tile.rows = rows.rows = part.rows;
    rows.features = part.features;
    return rows;
  }
};

template <class C>
constexpr CodecTable make_table() {
  using T = Table<C>;
  return {&T::state_bytes, &T::begin,      &T::query_bytes, &T::prepare, &T::scratch_bytes,
          &T::score,       &T::value,      &T::decode,      &T::encode,  &T::error,
          T::kWeighs,      T::score_how(), T::value_how()};
}

}  // namespace kvlab::inline KVLAB_TARGET

/// One codec's table, as a C symbol that names the codec and the instruction set.
#define KVLAB_DEFINE_CODEC_TABLE__(name, target, ...)                       \
  extern "C" const ::kvlab::CodecTable kvlab_codec_table_##name##_##target; \
  const ::kvlab::CodecTable kvlab_codec_table_##name##_##target =           \
      ::kvlab::target::make_table<::kvlab::__VA_ARGS__>();
#define KVLAB_DEFINE_CODEC_TABLE_(name, target, ...) \
  KVLAB_DEFINE_CODEC_TABLE__(name, target, __VA_ARGS__)
#define KVLAB_DEFINE_CODEC_TABLE(name, ...) \
  KVLAB_DEFINE_CODEC_TABLE_(name, KVLAB_TARGET, __VA_ARGS__)
