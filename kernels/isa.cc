#include "kernels/isa.h"

#include <array>
#include <string>

#include "core/error.h"
#include "core/json.h"
#include "kernels/instruction_sets.h"

namespace kvlab {
namespace {

constexpr std::array<std::string_view, kIsaCount> kNames{"scalar", "avx2", "avx512", "avx512bf16"};

}  // namespace

#define KVLAB_STEPS_OF(target)                 \
  namespace target {                           \
  extern const AttentionSteps kAttentionSteps; \
  }
#if KVLAB_HAS_X86_KERNELS
KVLAB_STEPS_OF(avx2)
KVLAB_STEPS_OF(avx512)
KVLAB_STEPS_OF(avx512bf16)
#endif
inline namespace scalar {
extern const AttentionSteps kAttentionSteps;
}

std::string_view name_of(Isa isa) { return kNames[static_cast<size_t>(isa)]; }

bool has_isa(Isa isa) {
#if KVLAB_HAS_X86_KERNELS
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  const bool bf16 =
      avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
  const std::array<bool, kIsaCount> has{true, avx2, avx512, bf16};
  return has[static_cast<size_t>(isa)];
#else
  return isa == Isa::scalar;
#endif
}

std::vector<Isa> usable_isas() {
  std::vector<Isa> usable;
  for (int i = 0; i < kIsaCount; ++i)
    if (has_isa(static_cast<Isa>(i))) usable.push_back(static_cast<Isa>(i));
  return usable;
}

Isa isa_named(std::string_view name) {
  if (name.empty()) return usable_isas().back();
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    if (name != name_of(isa)) continue;
    KVLAB_REQUIRE(has_isa(isa), "E_UNSUPPORTED", "cpu engine: this CPU does not have ", name,
                  "; the best it has is ", name_of(usable_isas().back()));
    return isa;
  }
  const std::vector<std::string> known(kNames.begin(), kNames.end());
  fail("E_UNKNOWN", "cpu engine: instruction set `", name, "`", suggestion(name, known));
}

const AttentionSteps& attention_steps([[maybe_unused]] Isa isa) {
#if KVLAB_HAS_X86_KERNELS
  if (isa == Isa::avx512bf16) return avx512bf16::kAttentionSteps;
  if (isa == Isa::avx512) return avx512::kAttentionSteps;
  if (isa == Isa::avx2) return avx2::kAttentionSteps;
#endif
  return scalar::kAttentionSteps;
}

}  // namespace kvlab
