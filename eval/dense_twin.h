#pragma once
// A dense run that goes along with another one, token for token, and says how far they are apart.

#include <vector>

#include "eval/companion.h"
#include "eval/fidelity.h"
#include "eval/run_sample.h"

namespace kvlab {

/// Every pass runs here first, with a dense cache; its logits are kept until the other run's have
/// been compared with them (rows of one pass times vocabulary, float32).  Outputs of attention are
/// compared at the 1st, 2nd, 4th, 8th ... token after the prompt; stored rows once, right after it.
class DenseTwin final : public Companion {
 public:
  /// Its composition must be dense.  `reference` outlives this.
  explicit DenseTwin(const Subject& reference);

  void joins(Cache& cache) override;
  void before(const EncoderPass& pass) override;
  void before(const Pass& pass) override;
  void logits(int64_t first, TensorView block, std::span<const int32_t> labels) override;
  void prefilled(const Cache& cache, SeqId sequence) override;
  void branch(Branch how) override;
  void rejoin() override;

  const Fidelity& fidelity() const { return fidelity_; }
  std::vector<LayerFidelity> layers() const;

 private:
  void record(const Attend& attend);
  void compare(const Attend& attend);
  void choose_probes(int64_t rows);
  void compare_first_query(std::span<const int32_t> positions);

  struct Site {
    LayerFidelity result{};
    std::vector<double> head_error{}, head_norm{};
    std::vector<std::vector<float>> outputs{};  // of the probed rows of the pass
    std::vector<float> query{};                 // of its first row
    TensorView distance_bias{};                 // Attend's: the model's own
  };
  const Subject& reference_;
  Cache cache_;
  SeqId sequence_, context_{};
  const Cache* other_ = nullptr;
  SeqId other_context_{};
  std::vector<Site> sites_;
  std::vector<size_t> probes_{};  // rows of the pass
  std::vector<float> logits_{};   // of its wanted rows
  Fidelity fidelity_{};
  bool is_prefilled_ = false, asked_first_ = false;
  int64_t decoded_ = 0;  // tokens since the prompt
};

}  // namespace kvlab
