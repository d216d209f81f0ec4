#include "eval/train/language_model.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "core/error.h"
#include "eval/random.h"
#include "eval/train/checkpoint.h"
#include "eval/train/induction_start.h"

namespace kvlab {
namespace {

constexpr int64_t kValidationTokens = 8192;  // through the network at once

at::Tensor int64_tensor(const std::vector<int64_t>& values, at::IntArrayRef sizes,
                        const at::Device& device) {
  return at::from_blob(const_cast<int64_t*>(values.data()), sizes, at::kLong).clone().to(device);
}

/// Normal numbers of a stream of their own, by Box and Muller, in double: the same on every device.
void fill_normal(const NamedParameter& parameter, double std, uint64_t seed) {
  const at::Tensor values = at::empty(parameter.value.sizes(), at::kFloat);
  SplitMix64 random = random_stream(seed, "train.init." + parameter.name, 0);
  float* out = values.data_ptr<float>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    const double radius = std::sqrt(-2 * std::log(1 - random.u01()));
    out[i] = static_cast<float>(std * radius * std::cos(2 * std::numbers::pi * random.u01()));
  }
  parameter.value.copy_(values);
}

bool ends_a_branch(std::string_view name) {
  return name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
}

DecoderConfig decoder_of(const TrainConfig& config) {
  DecoderConfig decoder = decoder_config(config.model, "train: model");
  KVLAB_REQUIRE(decoder.vocab_size <= 65536, "E_CONFIG", "train: model: `vocab_size` is ",
                decoder.vocab_size, ", tokens of a corpus have 16 bits: at most 65536");
  KVLAB_REQUIRE(!decoder.fused, "E_UNSUPPORTED", "train: model type `", decoder.family,
                "` keeps its projections in one tensor, which kvlab does not train; use llama, "
                "qwen2, qwen3, mistral or gemma2");
  return decoder;
}

}  // namespace

LanguageModel::LanguageModel(TrainConfig config, const at::Device& device)
    : config_(std::move(config)),
      decoder_(decoder_of(config_)),
      device_(device),
      sources_(config_.data, decoder_.vocab_size, decoder_.begin_token) {
  check_sources();
  const c10::NoGradGuard no_grad;
  for_each_weight(decoder_, weights_,
                  [&](const std::string& name, const auto& sizes, at::Tensor& w) {
                    w = at::empty(sizes, at::TensorOptions().dtype(at::kFloat).device(device_));
                    parameters_.push_back({name, w});
                  });
  if (config_.init_from.empty()) {
    draw_weights();
    if (const auto match = config_.init_induction)
      add_induction_heads(decoder_, *match, config_.seed, weights_);
  } else {
    load_weights(config_.init_from, parameters_);
  }
  network_ = std::make_unique<DecoderAutograd>(decoder_, weights_, config_.dtype);
}

void LanguageModel::check_sources() {
  for (const TrainStage& stage : config_.stages) {
    KVLAB_REQUIRE(stage.sequence_length <= decoder_.max_positions, "E_CONFIG",
                  "train: `sequence_length` is ", stage.sequence_length,
                  ", the model's `max_position_embeddings` ", decoder_.max_positions);
    for (const auto& [name, share] : stage.shares) {
      KVLAB_REQUIRE(name == "text" || is_recall(name), "E_CONFIG", "train: source `",
                    printable(name), "` is not known; known: text, recall-LENGTH");
      sources_.at(name);
    }
  }
  if (config_.validation.text_windows > 0) sources_.at("text-valid");
  for (const std::string& name : config_.validation.recall) {
    KVLAB_REQUIRE(is_recall(name), "E_CONFIG", "train: `validation.recall` names `",
                  printable(name), "`; known: recall-LENGTH");
    const auto documents = static_cast<int64_t>(sources_.at(name).documents().size());
    KVLAB_REQUIRE(documents >= config_.held_out_documents, "E_CONFIG", "train: ", name,
                  ".bin holds ", documents, " documents, fewer than `data.held_out_documents` = ",
                  config_.held_out_documents);
  }
}

void LanguageModel::draw_weights() {
  const double branch = config_.init_branches * config_.init_std;
  const double norm = decoder_.norm_form == NormForm::weight ? 1 : 0;
  for (const NamedParameter& p : parameters_) {
    if (p.value.dim() == 2) {
      fill_normal(p, ends_a_branch(p.name) ? branch : config_.init_std, config_.seed);
    } else {
      p.value.fill_(p.name.ends_with("norm.weight") ? norm : 0.0);
    }
  }
}

std::vector<NamedParameter> LanguageModel::parameters() { return parameters_; }

int64_t LanguageModel::parameter_count() {
  int64_t count = 0;
  for (const NamedParameter& p : parameters_) count += p.value.numel();
  return count;
}

int LanguageModel::parts(int64_t step) { return config_.stage_of(step).accumulate; }

int64_t LanguageModel::tokens(int64_t step) {
  const TrainStage& stage = config_.stage_of(step);
  return stage.batch_sequences * stage.sequence_length;
}

double LanguageModel::operations(int64_t step) {
  int64_t weights = decoder_.vocab_size * decoder_.width;
  for (const NamedParameter& p : parameters_)
    if (p.name.ends_with("_proj.weight")) weights += p.value.numel();
  const double length = static_cast<double>(config_.stage_of(step).sequence_length);
  double attention = 0;
  for (const int64_t left : decoder_.window_left) {
    const double reach = left < 0 ? length : std::min(length, static_cast<double>(left + 1));
    attention +=
        12.0 * decoder_.head_dim * decoder_.num_heads * (reach - reach * reach / (2 * length));
  }
  return static_cast<double>(tokens(step)) * (6.0 * static_cast<double>(weights) + attention);
}

at::Tensor LanguageModel::loss(int64_t step, int part) {
  if (batch_step_ != step) {
    batch_ = make_batch(config_, sources_, step);
    batch_step_ = step;
  }
  const int64_t rows = batch_.sequences / parts(step), length = batch_.length;
  const at::Tensor ids = int64_tensor(batch_.ids, {batch_.sequences, length + 1}, device_)
                             .narrow(0, part * rows, rows);
  const at::Tensor weights =
      at::from_blob(batch_.weights.data(), {batch_.sequences, length}, at::kFloat)
          .narrow(0, part * rows, rows)
          .flatten();
  double divisor = static_cast<double>(batch_.sequences * length);
  if (config_.loss_mean == LossMean::weights) {
    divisor = std::accumulate(batch_.weights.begin(), batch_.weights.end(), 0.0);
    KVLAB_REQUIRE(divisor > 0, "E_CONFIG", "train: all tokens of step ", step,
                  " have weight 0; raise `loss.answer_weight`");
  }
  const at::Tensor hidden = network_->hidden(ids.narrow(1, 0, length)).flatten(0, 1);
  const at::Tensor targets = ids.narrow(1, 1, length).flatten();
  const at::Tensor scaled = (weights / divisor).to(device_);
  if (weights.min().item<float>() > 0) return network_->loss(hidden, targets, scaled);
  const at::Tensor counted = weights.nonzero().flatten().to(device_);  // the others need no logits
  return network_->loss(hidden.index_select(0, counted), targets.index_select(0, counted),
                        scaled.index_select(0, counted));
}

double LanguageModel::text_loss() {
  const std::span<const uint16_t> tokens = sources_.at("text-valid").tokens();
  const int64_t windows = config_.validation.text_windows;
  const int64_t length = std::min(config_.validation.text_length, decoder_.max_positions);
  const int64_t spare = static_cast<int64_t>(tokens.size()) - length - 1;
  KVLAB_REQUIRE(spare >= 0, "E_CONFIG", "train: text-valid.bin holds ", tokens.size(),
                " tokens, fewer than `validation.text_length` + 1");
  const int64_t at_once = std::max<int64_t>(1, kValidationTokens / length);
  double sum = 0;
  for (int64_t first = 0; first < windows; first += at_once) {
    const int64_t n = std::min(at_once, windows - first);
    std::vector<int64_t> ids;
    for (int64_t w = first; w < first + n; ++w) {
      const auto begin = tokens.begin() + (windows == 1 ? 0 : w * spare / (windows - 1));
      ids.insert(ids.end(), begin, begin + length + 1);
    }
    const at::Tensor all = int64_tensor(ids, {n, length + 1}, device_);
    const at::Tensor hidden = network_->hidden(all.narrow(1, 0, length)).flatten(0, 1);
    const at::Tensor ones = at::empty({n * length}, hidden.options().dtype(at::kFloat)).fill_(1);
    sum += network_->loss(hidden, all.narrow(1, 1, length).flatten(), ones).item<double>();
  }
  return sum / static_cast<double>(windows * length);
}

std::vector<bool> LanguageModel::predicted(const TokenSource& source,
                                           std::span<const Range> documents) {
  int64_t length = 0;
  for (const Range& d : documents) length = std::max(length, d.size() - 1);
  const int64_t n = static_cast<int64_t>(documents.size());
  std::vector<int64_t> ids(static_cast<size_t>(n * length), decoder_.begin_token), rows, targets;
  for (int64_t d = 0; d < n; ++d) {
    const Range document = documents[static_cast<size_t>(d)];
    for (int64_t i = 1; i < document.size(); ++i) {
      const size_t at = static_cast<size_t>(document.first + i);
      ids[static_cast<size_t>(d * length + i - 1)] = source.tokens()[at - 1];
      if (source.marks()[at] == 0) continue;
      rows.push_back(d * length + i - 1);
      targets.push_back(source.tokens()[at]);
    }
  }
  if (rows.empty()) return {};
  const auto count = static_cast<int64_t>(rows.size());
  const at::Tensor hidden = network_->hidden(int64_tensor(ids, {n, length}, device_)).flatten(0, 1);
  const at::Tensor first =
      network_->logits(hidden.index_select(0, int64_tensor(rows, {count}, device_))).argmax(-1);
  const at::Tensor right = first.eq(int64_tensor(targets, {count}, device_)).cpu();
  const bool* begin = right.data_ptr<bool>();
  return std::vector<bool>(begin, begin + count);
}

void LanguageModel::judge_recall(const std::string& name, Json& into) {
  const TokenSource& source = sources_.at(name);
  const auto all = std::span(source.documents());
  const auto held_out = all.last(static_cast<size_t>(config_.held_out_documents))
                            .first(static_cast<size_t>(config_.validation.documents));
  int64_t tokens = 0, right_tokens = 0, answers = 0, right_answers = 0;
  for (size_t first = 0; first < held_out.size();) {
    size_t n = 0;
    for (int64_t length = 0; first + n < held_out.size(); ++n) {
      length = std::max(length, held_out[first + n].size());
      if (n > 0 && length * static_cast<int64_t>(n + 1) > kValidationTokens) break;
    }
    const auto documents = held_out.subspan(first, n);
    const std::vector<bool> right = predicted(source, documents);
    size_t at = 0;
    for (const Range& d : documents) {
      bool inside = false, whole = true;
      const auto end_answer = [&] {
        if (inside) ++answers, right_answers += whole;
        inside = false, whole = true;
      };
      for (int64_t i = d.first + 1; i < d.last; ++i) {
        if (source.marks()[static_cast<size_t>(i)] == 0) {
          end_answer();
          continue;
        }
        inside = true;
        whole = whole && right[at];
        ++tokens, right_tokens += right[at++];
      }
      end_answer();
    }
    first += n;
  }
  KVLAB_REQUIRE(answers > 0, "E_FORMAT", "train: the held-out documents of ", name,
                " hold no marked token");
  into[name] = static_cast<double>(right_answers) / static_cast<double>(answers);
  into[name + "_tokens"] = static_cast<double>(right_tokens) / static_cast<double>(tokens);
}

Json LanguageModel::validate() {
  const c10::NoGradGuard no_grad;
  Json result = Json::object();
  if (config_.validation.text_windows > 0) result["text_loss"] = text_loss();
  for (const std::string& name : config_.validation.recall) judge_recall(name, result);
  return result;
}

}  // namespace kvlab
