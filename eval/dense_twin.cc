#include "eval/dense_twin.h"

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "core/error.h"
#include "core/torch.h"
#include "eval/layer_fidelity.h"
#include "eval/nll.h"

namespace kvlab {
namespace {

/// Row r of a tensor of any float dtype, as float32.
std::vector<float> row_of(TensorView rows, size_t r) {
  const at::Tensor row =
      to_torch(rows).select(0, static_cast<int64_t>(r)).to(at::kFloat).contiguous();
  return {row.const_data_ptr<float>(), row.const_data_ptr<float>() + row.numel()};
}

}  // namespace

DenseTwin::DenseTwin(const Subject& reference)
    : reference_(reference),
      cache_(reference.model->shape(), *reference.composition, *reference.registry,
             reference.where),
      sequence_(cache_.add_sequence()),
      sites_(reference.model->shape().layers.size()) {
  for (size_t i = 0; i < sites_.size(); ++i) {
    const auto heads = static_cast<size_t>(reference.model->shape().layers[i].num_heads);
    sites_[i].head_error.resize(heads);
    sites_[i].head_norm.resize(heads);
  }
  cache_.watch([this](const Attend& attend) { record(attend); });
}

void DenseTwin::joins(Cache& cache) {
  other_ = &cache;
  cache.watch([this](const Attend& attend) { compare(attend); });
}

/// Rows 1, 2, 4, 8 ... of those since the prompt.
void DenseTwin::choose_probes(int64_t rows) {
  probes_.clear();
  if (!is_prefilled_) return;
  for (int64_t at = 1; at <= decoded_ + rows; at *= 2)
    if (at > decoded_) probes_.push_back(static_cast<size_t>(at - decoded_ - 1));
  decoded_ += rows;
}

void DenseTwin::before(const EncoderPass& pass) {
  EncoderPass own = pass;
  own.sequence = sequence_;
  own.read = ReadPolicy::raw_chunk;
  reference_.model->encode(cache_, own);
}

void DenseTwin::before(const Pass& pass) {
  const int64_t vocab = reference_.model->shape().vocab_size;
  choose_probes(pass.rows.size());
  logits_.resize(pass.wanted.size() * static_cast<size_t>(vocab));
  Pass own = pass;
  own.rows.sequences = {&sequence_, 1};
  own.read = ReadPolicy::raw_chunk;
  reference_.model->forward(cache_, own, [&](int64_t first, TensorView block) {
    const auto* data = reinterpret_cast<const float*>(block.data);
    std::copy_n(data, block.numel(), logits_.begin() + first * vocab);
  });
  if (is_prefilled_ && !asked_first_) compare_first_query(pass.rows.positions);
}

void DenseTwin::record(const Attend& attend) {
  if (probes_.empty()) return;
  Site& site = sites_[static_cast<size_t>(attend.layer)];
  site.outputs.clear();
  for (const size_t row : probes_) site.outputs.push_back(row_of(attend.out, row));
  if (asked_first_ || attend.rotated) return;
  site.query = row_of(attend.queries, 0);
  site.distance_bias = attend.distance_bias;
}

void DenseTwin::compare(const Attend& attend) {
  if (probes_.empty()) return;
  Site& site = sites_[static_cast<size_t>(attend.layer)];
  for (size_t i = 0; i < probes_.size(); ++i)
    compare_outputs(site.outputs[i], row_of(attend.out, probes_[i]), site.result, site.head_error,
                    site.head_norm);
}

void DenseTwin::compare_first_query(std::span<const int32_t> positions) {
  asked_first_ = true;
  if (positions.front() != other_->tokens_seen(other_context_)) return;  // a turn from nothing
  for (size_t i = 0; i < sites_.size(); ++i) {
    if (sites_[i].query.empty()) continue;
    const AskedQuery asked{.features = sites_[i].query,
                           .position = positions.front(),
                           .distance_bias = sites_[i].distance_bias};
    compare_scores(static_cast<int>(i), asked, {&cache_, sequence_}, {other_, other_context_},
                   sites_[i].result);
  }
}

void DenseTwin::logits(int64_t first, TensorView block, std::span<const int32_t> labels) {
  const auto vocab = static_cast<size_t>(block.size(1));
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == kUnscored) continue;
    const std::span other(reinterpret_cast<const float*>(block.at(static_cast<int64_t>(i))), vocab);
    const std::span dense =
        std::span<const float>(logits_).subspan((static_cast<size_t>(first) + i) * vocab, vocab);
    arg_max(dense);  // E_NONFINITE: nothing can be compared with such a row
    fidelity_.add(dense, other, labels[i]);
  }
}

void DenseTwin::prefilled(const Cache& cache, SeqId sequence) {
  is_prefilled_ = true;
  other_context_ = sequence;
  for (size_t i = 0; i < sites_.size(); ++i)
    compare_rows(static_cast<int>(i), {&cache_, sequence_}, {&cache, sequence}, sites_[i].result);
}

void DenseTwin::branch(Branch how) {
  context_ = sequence_;
  sequence_ = how == Branch::empty ? cache_.add_sequence() : cache_.fork(context_);
  decoded_ = 0;
}

void DenseTwin::rejoin() {
  cache_.drop(sequence_);
  sequence_ = context_;
}

std::vector<LayerFidelity> DenseTwin::layers() const {
  std::vector<LayerFidelity> all;
  for (const Site& site : sites_) {
    LayerFidelity& layer = all.emplace_back(site.result);
    for (size_t h = 0; h < site.head_error.size(); ++h)
      if (site.head_norm[h] > 0) layer.head_nmse.push_back(site.head_error[h] / site.head_norm[h]);
  }
  return all;
}

}  // namespace kvlab
