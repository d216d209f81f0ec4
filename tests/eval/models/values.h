#pragma once
// Numbers for tests: seeded, in any float dtype, and readable as double.

#include <bit>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>

#include "core/artifact.h"
#include "eval/random.h"

namespace kvlab::test {

/// Element i of a dense float tensor.
inline double value_at(const TensorView& view, int64_t i) {
  const u8* at = view.as<const u8>() + i * size_of(view.dtype);
  uint16_t half = 0;
  switch (view.dtype) {
    case Dtype::f64:
      return *reinterpret_cast<const double*>(at);
    case Dtype::f32:
      return *reinterpret_cast<const float*>(at);
    case Dtype::bf16:
      std::memcpy(&half, at, sizeof half);
      return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
    default:
      throw std::logic_error("value_at: not a dtype of these tests");
  }
}

/// Round to nearest even, as hardware does.
inline uint16_t bf16_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
inline double rounded_to_bf16(double value) {
  return std::bit_cast<float>(static_cast<uint32_t>(bf16_bits(static_cast<float>(value))) << 16);
}

inline void set_value(const TensorView& view, int64_t i, double value) {
  if (view.dtype == Dtype::f32) {
    view.as<float>()[i] = static_cast<float>(value);
  } else {
    view.as<uint16_t>()[i] = bf16_bits(static_cast<float>(value));
  }
}

/// Uniform in [-size, size).
inline Tensor random_tensor(std::string name, Dtype dtype, std::initializer_list<int64_t> sizes,
                            uint64_t seed, double size = 1) {
  Tensor tensor = make_tensor(std::move(name), dtype, sizes);
  SplitMix64 random(seed);
  for (int64_t i = 0; i < tensor.view.numel(); ++i)
    set_value(tensor.view, i, size * (2 * random.u01() - 1));
  return tensor;
}

}  // namespace kvlab::test
