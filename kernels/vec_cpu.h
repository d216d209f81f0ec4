#pragma once
// kernels/vec.h on the CPU.  Whole-vector expressions and one intrinsic per instruction set where
// g++ would otherwise fall back to scalar code (widening bytes, float16).

#if KVLAB_ISA >= KVLAB_ISA_AVX2
#include <immintrin.h>
#endif

namespace kvlab::inline KVLAB_TARGET {

template <int W>
struct Vec {
  static_assert(W == 1 || W == 4 || W == 8 || W == 16);
  typedef float Float __attribute__((vector_size(4 * W)));
  typedef int32_t Int __attribute__((vector_size(4 * W)));
  typedef uint32_t Bits __attribute__((vector_size(4 * W)));
  typedef uint16_t Shorts __attribute__((vector_size(2 * W)));
  typedef u8 Bytes __attribute__((vector_size(W)));
};
template <int W>
using F = typename Vec<W>::Float;
template <int W>
using I = typename Vec<W>::Int;
template <int W>
using U = typename Vec<W>::Bits;

/// The width that fills a register.
#if KVLAB_ISA >= KVLAB_ISA_AVX512
inline constexpr int kLanes = 16;
#elif KVLAB_ISA >= KVLAB_ISA_AVX2
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

template <class T>
KVLAB_HD T load_as(const void* p) {
  T v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
KVLAB_HD void store_as(void* p, const T& v) {
  __builtin_memcpy(p, &v, sizeof v);
}
template <class To, class From>
KVLAB_HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  return load_as<To>(&from);
}

template <int W>
KVLAB_HD F<W> splat(float x) {
  return x - F<W>{};  // x - 0 is x, -0 and NaN included
}

template <int W>
KVLAB_HD F<W> concat(F<W / 2> low, F<W / 2> high) {
  F<W> v;
  __builtin_memcpy(&v, &low, 2 * W);
  __builtin_memcpy(reinterpret_cast<u8*>(&v) + 2 * W, &high, 2 * W);
  return v;
}

template <int W>
KVLAB_HD F<W> min(F<W> a, F<W> b) {
  return a < b ? a : b;
}
template <int W>
KVLAB_HD F<W> max(F<W> a, F<W> b) {
  return a > b ? a : b;
}

template <int W>
KVLAB_HD F<W> fma(F<W> a, F<W> b, F<W> c) {
#if KVLAB_ISA >= KVLAB_ISA_AVX512
  if constexpr (W == 16) return (F<W>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#endif
#if KVLAB_ISA >= KVLAB_ISA_AVX2
  if constexpr (W == 8) return (F<W>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  if constexpr (W == 4) return (F<W>)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
#endif
  F<W> r;
  for (int i = 0; i < W; ++i) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return r;
}

template <int W>
KVLAB_HD F<W> round_even(F<W> x) {
  const F<W> magic = splat<W>(12582912.0f);  // 1.5 * 2^23: the sum has no bits below one
  return (x + magic) - magic;
}

template <int W>
KVLAB_HD F<W> power_below(F<W> x) {
  return (F<W>)((U<W>)x & 0x7f800000u);
}
template <int W>
KVLAB_HD F<W> two_over(F<W> p) {
  return (F<W>)(0x7f800000u - (U<W>)p);
}

template <int W>
KVLAB_HD float add_lanes(F<W> v) {
  if constexpr (W == 1) {
    return v[0];
  } else {
    constexpr int H = W == 4 ? 1 : W / 2;
    if constexpr (W == 4)
      return (v[0] + v[2]) + (v[1] + v[3]);
    else
      return add_lanes<H>(load_as<F<H>>(&v) + load_as<F<H>>(reinterpret_cast<u8*>(&v) + 4 * H));
  }
}

template <int W>
KVLAB_HD F<W> to_float(U<W> v) {  // of integers below 2^31
  return __builtin_convertvector((I<W>)v, F<W>);
}

// --- bytes -------------------------------------------------------------------------------------

template <int W>
KVLAB_HD U<W> load_bytes(const void* p) {
#if KVLAB_ISA >= KVLAB_ISA_AVX512
  if constexpr (W == 16) return (U<W>)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p));
#endif
#if KVLAB_ISA >= KVLAB_ISA_AVX2
  if constexpr (W == 8) return (U<W>)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
  if constexpr (W == 4) return (U<W>)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(load_as<int>(p)));
#endif
  U<W> v;
  for (int i = 0; i < W; ++i) v[i] = static_cast<const u8*>(p)[i];
  return v;
}

template <int W>
KVLAB_HD F<W> load_bits(const void* p, int shift, uint32_t mask) {
  return to_float<W>((load_bytes<W>(p) >> shift) & mask);
}

template <int W>
KVLAB_HD F<W> load_i8(const void* p) {
  const I<W> v = (I<W>)(load_bytes<W>(p) << 24) >> 24;
  return __builtin_convertvector(v, F<W>);
}

/// Codes as they are packed: v holds integers below 256, negative ones as two's complement.
template <int W>
KVLAB_HD U<W> to_bits(F<W> v) {
  return (U<W>)__builtin_convertvector(v, I<W>);
}
template <int W>
KVLAB_HD void store_bytes(void* p, U<W> v) {
#if KVLAB_ISA >= KVLAB_ISA_AVX512
  if constexpr (W == 16) return _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8((__m512i)v));
#endif
  for (int i = 0; i < W; ++i) static_cast<u8*>(p)[i] = static_cast<u8>(v[i]);
}

// --- float32, bfloat16 -------------------------------------------------------------------------

template <int W>
KVLAB_HD F<W> load_f32(const void* p) {
  return load_as<F<W>>(p);
}
template <int W>
KVLAB_HD void store_f32(void* p, F<W> v) {
  store_as(p, v);
}

template <int W>
KVLAB_HD U<W> load_shorts(const void* p) {
#if KVLAB_ISA >= KVLAB_ISA_AVX512
  if constexpr (W == 16) return (U<W>)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
#endif
#if KVLAB_ISA >= KVLAB_ISA_AVX2
  if constexpr (W == 8) return (U<W>)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
  if constexpr (W == 4) return (U<W>)_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i*)p));
#endif
  const auto shorts = load_as<typename Vec<W>::Shorts>(p);
  U<W> v;
  for (int i = 0; i < W; ++i) v[i] = shorts[i];
  return v;
}
template <int W>
KVLAB_HD void store_shorts(void* p, U<W> v) {
#if KVLAB_ISA >= KVLAB_ISA_AVX512
  if constexpr (W == 16) return _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16((__m512i)v));
#endif
  typename Vec<W>::Shorts shorts;
  for (int i = 0; i < W; ++i) shorts[i] = static_cast<uint16_t>(v[i]);
  store_as(p, shorts);
}

template <int W>
KVLAB_HD F<W> load_bf16(const void* p) {
  return (F<W>)(load_shorts<W>(p) << 16);
}
template <int W>
KVLAB_HD U<W> to_bf16(F<W> v) {
  const U<W> bits = (U<W>)v;
  const U<W> rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return v == v ? rounded : (bits >> 16) | 0x40;
}
template <int W>
KVLAB_HD void store_bf16(void* p, F<W> v) {
  store_shorts<W>(p, to_bf16<W>(v));
}

KVLAB_HD float bf16_value(uint16_t bits) { return bit_cast<float>(uint32_t{bits} << 16); }
KVLAB_HD uint16_t bf16_bits(float x) { return static_cast<uint16_t>(to_bf16<1>(F<1>{x})[0]); }

// --- float16 -----------------------------------------------------------------------------------

#if KVLAB_ISA >= KVLAB_ISA_AVX2
KVLAB_HD float half_value(uint16_t bits) { return _cvtsh_ss(bits); }
KVLAB_HD uint16_t half_bits(float x) {
  return static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
}
#else
KVLAB_HD float half_value(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u)  // infinite, NaN (made quiet, as the instruction does)
    return bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13 |
                           (magnitude > 0x7c00u ? 0x400000u : 0u));
  // As the mantissa of a float 2^112 times too small: exact for subnormals too.
  const float value = bit_cast<float>(magnitude << 13) * 0x1p112f;
  return bit_cast<float>(bit_cast<uint32_t>(value) | sign);
}
KVLAB_HD uint16_t half_bits(float x) {
  const uint32_t bits = bit_cast<uint32_t>(x);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u)
    half = 0x7e00u | (magnitude >> 13 & 0x3ffu);
  else if (magnitude >= 0x477ff000u)
    half = 0x7c00u;                  // from 65520 on
  else if (magnitude < 0x38800000u)  // subnormal: the sum's last bit is worth 2^-24
    half = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  else
    half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  return static_cast<uint16_t>(sign | half);
}
#endif

template <int W>
KVLAB_HD F<W> load_f16(const void* p) {
#if KVLAB_ISA >= KVLAB_ISA_AVX512
  if constexpr (W == 16) return (F<W>)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#endif
#if KVLAB_ISA >= KVLAB_ISA_AVX2
  if constexpr (W == 8) return (F<W>)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
  if constexpr (W == 4) return (F<W>)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)p));
#endif
  const auto shorts = load_as<typename Vec<W>::Shorts>(p);
  F<W> v;
  for (int i = 0; i < W; ++i) v[i] = half_value(shorts[i]);
  return v;
}
template <int W>
KVLAB_HD void store_f16(void* p, F<W> v) {
#if KVLAB_ISA >= KVLAB_ISA_AVX512
  if constexpr (W == 16)
    return _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#endif
#if KVLAB_ISA >= KVLAB_ISA_AVX2
  if constexpr (W == 8)
    return _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#endif
  typename Vec<W>::Shorts shorts;
  for (int i = 0; i < W; ++i) shorts[i] = half_bits(v[i]);
  store_as(p, shorts);
}

}  // namespace kvlab::inline KVLAB_TARGET
