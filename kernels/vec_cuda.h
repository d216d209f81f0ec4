#pragma once
// kernels/vec.h on CUDA: a small array that lives in registers.
//
// Everything is written once, for nvcc, NVRTC and (KVLAB_EMULATE_CUDA) g++; what differs between a
// device and a host stands in load_as, store_as, `Rn` and the two float16 conversions.
// Device accesses must be aligned to the number they read; where the address also allows, W numbers
// travel in accesses of up to 16 bytes.

namespace kvlab::inline KVLAB_TARGET {

// --- single numbers ----------------------------------------------------------------------------

#define KVLAB_EACH_LANE KVLAB_UNROLL for (int i = 0; i < W; ++i)

/// A multiple of `bytes`, a power of two.
KVLAB_HD bool is_aligned(const void* p, uint64_t bytes) {
  return (reinterpret_cast<uint64_t>(p) & (bytes - 1)) == 0;
}

#ifdef KVLAB_EMULATE_CUDA
/// Accesses that a device would have refused with "misaligned address".
inline int64_t misaligned_accesses = 0;
#endif
template <class T>
KVLAB_HD void count_if_misaligned([[maybe_unused]] const void* p) {
#ifdef KVLAB_EMULATE_CUDA
  misaligned_accesses += !is_aligned(p, alignof(T));
#endif
}

template <class T>
KVLAB_HD T load_as(const void* p) {
#ifdef __CUDA_ARCH__
  return *static_cast<const T*>(p);
#else
  count_if_misaligned<T>(p);
  T v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
#endif
}
template <class T>
KVLAB_HD void store_as(void* p, const T& v) {
#ifdef __CUDA_ARCH__
  *static_cast<T*>(p) = v;
#else
  count_if_misaligned<T>(p);
  __builtin_memcpy(p, &v, sizeof v);
#endif
}
template <class To, class From>
KVLAB_HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, from);
}

/// One rounding each, whatever the compiler's flags say of contraction.
struct Rn {
#ifdef __CUDA_ARCH__
  KVLAB_HD static float add(float a, float b) { return __fadd_rn(a, b); }
  KVLAB_HD static float sub(float a, float b) { return __fsub_rn(a, b); }
  KVLAB_HD static float mul(float a, float b) { return __fmul_rn(a, b); }
  KVLAB_HD static float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
#else
  KVLAB_HD static float add(float a, float b) { return a + b; }
  KVLAB_HD static float sub(float a, float b) { return a - b; }
  KVLAB_HD static float mul(float a, float b) { return a * b; }
  KVLAB_HD static float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#endif
};

KVLAB_HD uint32_t float_bits(float x) { return bit_cast<uint32_t>(x); }
KVLAB_HD float float_of(uint32_t bits) { return bit_cast<float>(bits); }

KVLAB_HD float bf16_value(uint16_t bits) { return float_of(uint32_t{bits} << 16); }
KVLAB_HD uint16_t bf16_bits(float x) {
  const uint32_t bits = float_bits(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return static_cast<uint16_t>(x == x ? rounded : (bits >> 16) | 0x40);
}

/// A NaN keeps its sign and what fits of its payload, made quiet, as x86 does; a device's own
/// conversion gives one and the same NaN for all.
KVLAB_HD uint16_t half_of_nan(uint32_t bits) {
  return static_cast<uint16_t>((bits >> 16 & 0x8000u) | 0x7e00u | (bits >> 13 & 0x3ffu));
}
KVLAB_HD float value_of_half_nan(uint32_t bits) {
  return float_of((bits & 0x8000u) << 16 | 0x7fc00000u | (bits & 0x3ffu) << 13);
}

#ifdef __CUDA_ARCH__
KVLAB_HD float half_value(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return (bits & 0x7fffu) > 0x7c00u ? value_of_half_nan(bits) : value;
}
KVLAB_HD uint16_t half_bits(float x) {
  uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return x == x ? half : half_of_nan(float_bits(x));
}
#else
KVLAB_HD float half_value(uint16_t bits) {
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude > 0x7c00u) return value_of_half_nan(bits);
  if (magnitude == 0x7c00u) return float_of(uint32_t{bits & 0x8000u} << 16 | 0x7f800000u);
  // As the mantissa of a float 2^112 times too small: exact for subnormals too.
  const float value = float_of(magnitude << 13) * 0x1p112f;
  return float_of(float_bits(value) | uint32_t{bits & 0x8000u} << 16);
}
KVLAB_HD uint16_t half_bits(float x) {
  const uint32_t bits = float_bits(x), magnitude = bits & 0x7fffffffu;
  if (x != x) return half_of_nan(bits);
  uint32_t half;
  if (magnitude >= 0x477ff000u)
    half = 0x7c00u;                  // from 65520 on
  else if (magnitude < 0x38800000u)  // subnormal: the sum's last bit is worth 2^-24
    half = float_bits(float_of(magnitude) + 0.5f) - 0x3f000000u;
  else
    half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  return static_cast<uint16_t>((bits >> 16 & 0x8000u) | half);
}
#endif

// --- vectors -----------------------------------------------------------------------------------

template <class T, int W>
struct Lanes {
  static_assert(W == 1 || W == 4 || W == 8 || W == 16);
  T lane[W];
  KVLAB_HD T& operator[](int i) { return lane[i]; }
  KVLAB_HD const T& operator[](int i) const { return lane[i]; }
};
template <int W>
using F = Lanes<float, W>;
template <int W>
using U = Lanes<uint32_t, W>;

template <int W>
KVLAB_HD F<W> splat(float x) {
  F<W> r;
  KVLAB_EACH_LANE r[i] = x;
  return r;
}
template <int W>
KVLAB_HD F<W> concat(const F<W / 2>& low, const F<W / 2>& high) {
  F<W> r;
  KVLAB_EACH_LANE r[i] = i < W / 2 ? low[i % (W / 2)] : high[i % (W / 2)];
  return r;
}
template <int W>
KVLAB_HD F<W> operator+(const Lanes<float, W>& a, const Lanes<float, W>& b) {
  F<W> r;
  KVLAB_EACH_LANE r[i] = Rn::add(a[i], b[i]);
  return r;
}
template <int W>
KVLAB_HD F<W> operator-(const Lanes<float, W>& a, const Lanes<float, W>& b) {
  F<W> r;
  KVLAB_EACH_LANE r[i] = Rn::sub(a[i], b[i]);
  return r;
}
template <int W>
KVLAB_HD F<W> operator*(const Lanes<float, W>& a, const Lanes<float, W>& b) {
  F<W> r;
  KVLAB_EACH_LANE r[i] = Rn::mul(a[i], b[i]);
  return r;
}
template <int W>
KVLAB_HD F<W> fma(const F<W>& a, const F<W>& b, const F<W>& c) {
  F<W> r;
  KVLAB_EACH_LANE r[i] = Rn::fma(a[i], b[i], c[i]);
  return r;
}
template <int W>
KVLAB_HD F<W> min(const F<W>& a, const F<W>& b) {
  F<W> r;
  KVLAB_EACH_LANE r[i] = a[i] < b[i] ? a[i] : b[i];
  return r;
}
template <int W>
KVLAB_HD F<W> max(const F<W>& a, const F<W>& b) {
  F<W> r;
  KVLAB_EACH_LANE r[i] = a[i] > b[i] ? a[i] : b[i];
  return r;
}
template <int W>
KVLAB_HD F<W> round_even(const F<W>& x) {
  const F<W> magic = splat<W>(12582912.0f);  // 1.5 * 2^23: the sum has no bits below one
  return (x + magic) - magic;
}
template <int W>
KVLAB_HD F<W> power_below(const F<W>& x) {
  F<W> r;
  KVLAB_EACH_LANE r[i] = float_of(float_bits(x[i]) & 0x7f800000u);
  return r;
}
template <int W>
KVLAB_HD F<W> two_over(const F<W>& p) {
  F<W> r;
  KVLAB_EACH_LANE r[i] = float_of(0x7f800000u - float_bits(p[i]));
  return r;
}
template <int W>
KVLAB_HD float add_lanes(const F<W>& v) {
  if constexpr (W == 1) {
    return v[0];
  } else {
    float sum[W];
    KVLAB_EACH_LANE sum[i] = v[i];
    KVLAB_UNROLL
    for (int half = W / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) sum[i] = Rn::add(sum[i], sum[i + half]);
    return sum[0];
  }
}

// --- memory ------------------------------------------------------------------------------------

/// N numbers that travel together.
template <class T, int N>
struct alignas(sizeof(T) * N) Packet {
  T number[N];
};

/// W numbers from p, in packets of up to 16 bytes where p is aligned to them.
template <class T, int W>
KVLAB_HD Lanes<T, W> load_lanes(const void* p) {
  constexpr int N = sizeof(T) * W <= 16 ? W : 16 / static_cast<int>(sizeof(T));
  Lanes<T, W> v;
  if (N > 1 && is_aligned(p, sizeof(T) * N)) {
    KVLAB_UNROLL
    for (int k = 0; k < W / N; ++k) {
      const auto packet = load_as<Packet<T, N>>(static_cast<const Packet<T, N>*>(p) + k);
      KVLAB_UNROLL
      for (int i = 0; i < N; ++i) v[k * N + i] = packet.number[i];
    }
  } else {
    KVLAB_EACH_LANE v[i] = load_as<T>(static_cast<const T*>(p) + i);
  }
  return v;
}
template <class T, int W>
KVLAB_HD void store_lanes(void* p, const Lanes<T, W>& v) {
  constexpr int N = sizeof(T) * W <= 16 ? W : 16 / static_cast<int>(sizeof(T));
  if (N > 1 && is_aligned(p, sizeof(T) * N)) {
    KVLAB_UNROLL
    for (int k = 0; k < W / N; ++k) {
      Packet<T, N> packet;
      KVLAB_UNROLL
      for (int i = 0; i < N; ++i) packet.number[i] = v[k * N + i];
      store_as(static_cast<Packet<T, N>*>(p) + k, packet);
    }
  } else {
    KVLAB_EACH_LANE store_as(static_cast<T*>(p) + i, v[i]);
  }
}

template <int W>
KVLAB_HD F<W> load_f32(const void* p) {
  return load_lanes<float, W>(p);
}
template <int W>
KVLAB_HD void store_f32(void* p, const F<W>& v) {
  store_lanes<float, W>(p, v);
}
template <int W>
KVLAB_HD F<W> load_f16(const void* p) {
  const auto bits = load_lanes<uint16_t, W>(p);
  F<W> v;
  KVLAB_EACH_LANE v[i] = half_value(bits[i]);
  return v;
}
template <int W>
KVLAB_HD void store_f16(void* p, const F<W>& v) {
  Lanes<uint16_t, W> bits;
  KVLAB_EACH_LANE bits[i] = half_bits(v[i]);
  store_lanes(p, bits);
}
template <int W>
KVLAB_HD F<W> load_bf16(const void* p) {
  const auto bits = load_lanes<uint16_t, W>(p);
  F<W> v;
  KVLAB_EACH_LANE v[i] = bf16_value(bits[i]);
  return v;
}
template <int W>
KVLAB_HD void store_bf16(void* p, const F<W>& v) {
  Lanes<uint16_t, W> bits;
  KVLAB_EACH_LANE bits[i] = bf16_bits(v[i]);
  store_lanes(p, bits);
}

template <int W>
KVLAB_HD F<W> load_bits(const void* p, int shift, uint32_t mask) {
  const auto bytes = load_lanes<u8, W>(p);
  F<W> v;
  KVLAB_EACH_LANE v[i] =
      static_cast<float>(static_cast<int32_t>(uint32_t{bytes[i]} >> shift & mask));
  return v;
}
template <int W>
KVLAB_HD F<W> load_i8(const void* p) {
  const auto bytes = load_lanes<u8, W>(p);
  F<W> v;
  KVLAB_EACH_LANE v[i] = static_cast<float>(static_cast<signed char>(bytes[i]));
  return v;
}

/// Codes as they are packed: v holds integers below 256, negative ones as two's complement.
template <int W>
KVLAB_HD U<W> to_bits(const F<W>& v) {
  U<W> bits;
  KVLAB_EACH_LANE bits[i] = static_cast<uint32_t>(static_cast<int32_t>(v[i]));
  return bits;
}
template <int W>
KVLAB_HD void store_bytes(void* p, const U<W>& v) {
  Lanes<u8, W> bytes;
  KVLAB_EACH_LANE bytes[i] = static_cast<u8>(v[i]);
  store_lanes(p, bytes);
}

#undef KVLAB_EACH_LANE

}  // namespace kvlab::inline KVLAB_TARGET
