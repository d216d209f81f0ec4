#include "kernels/rope.h"

#include <algorithm>
#include <cmath>

namespace kvlab {
namespace {

void fill(const Rope& rope, double position, double factor, float* to) {
  const size_t pairs = rope.inv_freq.size();
  for (size_t c = 0; c < pairs; ++c) {
    const double angle = position * rope.inv_freq[c];
    to[c] = static_cast<float>(factor * std::cos(angle));
    to[pairs + c] = static_cast<float>(factor * std::sin(angle));
  }
}

}  // namespace

RopeTable::RopeTable(const Rope& rope) : rope_(rope) {
  const size_t row = 2 * rope.inv_freq.size();
  fine_.resize(64 * row);
  for (size_t i = 0; i < 64; ++i) fill(rope_, static_cast<double>(i), 1.0, fine_.data() + i * row);
}

RopeTable::View RopeTable::cover(int64_t last) {
  const size_t row = 2 * rope_.inv_freq.size();
  const size_t rows = static_cast<size_t>(std::max<int64_t>(last, 0) / 64 + 1);
  const std::lock_guard lock(mutex_);
  if (coarse_.empty() || coarse_.back()->size() < rows * row) {
    const size_t have = coarse_.empty() ? 0 : coarse_.back()->size() / row;
    const size_t want = std::max({rows, 2 * have, size_t{64}});
    auto larger = std::make_unique<std::vector<float>>(want * row);
    if (have > 0) std::ranges::copy(*coarse_.back(), larger->begin());
    for (size_t i = have; i < want; ++i)
      fill(rope_, 64.0 * static_cast<double>(i), rope_.attention_factor, larger->data() + i * row);
    coarse_.push_back(std::move(larger));
  }
  return {fine_.data(), coarse_.back()->data()};
}

std::shared_ptr<RopeTable> rope_table(const Rope& rope) {
  static std::mutex mutex;
  static std::vector<std::shared_ptr<RopeTable>> tables;
  const std::lock_guard lock(mutex);
  const auto found = std::ranges::find(tables, rope, [](const auto& t) { return t->rope(); });
  if (found != tables.end()) return *found;
  tables.push_back(std::make_shared<RopeTable>(rope));
  return tables.back();
}

}  // namespace kvlab
