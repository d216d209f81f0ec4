#pragma once
// A decoder that learns the next token of a corpus.

#include <memory>

#include "eval/autograd/decoder_autograd.h"
#include "eval/train/batch.h"
#include "eval/train/loop.h"

namespace kvlab {

class LanguageModel final : public Trainee {
 public:
  /// Weights are drawn from the seed, or read from `init.from`.  E_CONFIG, E_FORMAT: the model, a
  /// source or a file of the corpus cannot be used, all before the first step.
  LanguageModel(TrainConfig config, const at::Device& device);

  std::vector<NamedParameter> parameters() override;
  int parts(int64_t step) override;
  at::Tensor loss(int64_t step, int part) override;
  /// "text_loss": mean cross-entropy of windows of text-valid.bin, evenly apart.  Of each recall
  /// source: the share of answers (runs of marked tokens) all of whose tokens are predicted first,
  /// and of marked tokens, "recall-512", "recall-512_tokens".
  Json validate() override;
  int64_t tokens(int64_t step) override;
  /// 6 per weight that a token is multiplied with, and 12 * head_dim * heads * (keys a query reads,
  /// on average) per token and layer.
  double operations(int64_t step) override;

  const DecoderConfig& decoder() const { return decoder_; }
  int64_t parameter_count();

 private:
  void draw_weights();
  void check_sources();
  double text_loss();
  void judge_recall(const std::string& source, Json& into);
  /// Whether each marked token of the documents is predicted first, documents one after another.
  std::vector<bool> predicted(const TokenSource& source, std::span<const Range> documents);

  TrainConfig config_;
  DecoderConfig decoder_;
  at::Device device_;
  DecoderTensors weights_{};
  std::vector<NamedParameter> parameters_{};
  std::unique_ptr<DecoderAutograd> network_{};
  TokenSources sources_;
  Batch batch_{};  // of batch_step_
  int64_t batch_step_ = -1;
};

}  // namespace kvlab
