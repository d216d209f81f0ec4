#include "eval/retention.h"

#include <algorithm>

namespace kvlab {
namespace {

double share_held(const std::vector<int32_t>& positions, const std::vector<Range>& needles) {
  int64_t held = 0, all = 0;
  for (const Range& needle : needles) {
    const auto [first, last] =
        std::pair(std::ranges::lower_bound(positions, static_cast<int32_t>(needle.first)),
                  std::ranges::lower_bound(positions, static_cast<int32_t>(needle.last)));
    held += last - first;
    all += needle.size();
  }
  return static_cast<double>(held) / static_cast<double>(all);
}

}  // namespace

std::vector<std::vector<double>> needle_retention(const Cache& cache, SeqId sequence,
                                                  const std::vector<Range>& needles) {
  std::vector<std::vector<double>> all;
  if (needles.empty()) return all;
  const std::vector<Layer>& layers = cache.shape().layers;
  for (int i = 0; i < static_cast<int>(layers.size()); ++i) {
    std::vector<double>& heads = all.emplace_back();
    const auto lists = static_cast<int>(cache.live_rows(i, sequence).size());
    // Cross layers hold tokens of the encoder; needles lie in the context.
    if (lists == 0 || layers[static_cast<size_t>(i)].kind == Layer::Kind::cross) continue;
    const int kv_heads = layers[static_cast<size_t>(i)].num_kv_heads;
    for (int list = 0; list < lists; ++list) {
      const double share = share_held(cache.positions(i, sequence, list), needles);
      heads.insert(heads.end(), static_cast<size_t>(kv_heads / lists), share);
    }
  }
  return all;
}

}  // namespace kvlab
