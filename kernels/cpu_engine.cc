#include "kernels/cpu_engine.h"

#include <algorithm>
#include <mutex>

#include "core/error.h"
#include "kernels/cpu/attend.h"
#include "kernels/cpu/encode.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"

namespace kvlab {
namespace {

class CpuEngine final : public Engine {
 public:
  explicit CpuEngine(const CpuOptions& options) {
    KVLAB_REQUIRE(options.threads >= 0, "E_CONFIG", "cpu engine: ", options.threads,
                  " threads; allowed: 0 (LibTorch's pool as it is) and more");
    resources_.isa = isa_named(options.isa);
    resources_.threads = options.threads == 0 ? std::max(1, pool_threads()) : options.threads;
    resources_.scratch.resize(static_cast<size_t>(resources_.threads));
  }

  Device device() const override { return {Device::Kind::cpu, 0}; }

  void encode(const EncodeCall& call) override {
    const std::lock_guard lock(mutex_);
    kvlab::encode(resources_, call);
  }
  void decode(const DecodeCall& call) override {
    const std::lock_guard lock(mutex_);
    kvlab::decode(resources_, call);
  }
  void move(const MoveCall& call) override {
    const std::lock_guard lock(mutex_);
    kvlab::move(resources_, call);
  }
  std::shared_ptr<const Plan> plan(const Layer& shape, const RowMap& rows,
                                   std::span<const Segment> segments,
                                   const SplitPolicy& split) override {
    std::vector<Segment> direct;
    for (const int i : segments_with_kernels(segments))
      direct.push_back(segments[static_cast<size_t>(i)]);
    const WorkItems items = make_items(
        {.shape = &shape, .rows = rows, .segments = direct, .split = split, .isa = resources_.isa});
    return std::make_shared<CpuPlan>(make_plan(items, split, resources_.workers()));
  }
  void attend(const AttendCall& call, Ran* later) override {
    const std::lock_guard lock(mutex_);
    const Ran ran = kvlab::attend(resources_, call);
    if (later != nullptr) *later = ran;
  }
  void sync() override {}
  int64_t scratch_bytes() const override { return resources_.scratch_bytes(); }

 private:
  std::mutex mutex_{};  // scratch belongs to one call at a time
  CpuResources resources_{};
};

}  // namespace

std::shared_ptr<Engine> make_cpu_engine(const CpuOptions& options) {
  return std::make_shared<CpuEngine>(options);
}

std::vector<std::string> cpu_instruction_sets() {
  std::vector<std::string> names;
  for (const Isa isa : usable_isas()) names.emplace_back(name_of(isa));
  return names;
}

}  // namespace kvlab
