#include "tests/core/cache/reference_cache.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "core/types.h"

namespace kvlab::test {
namespace {

/// `levels` steps between the smallest and the largest, in float32 as the codecs compute.
std::vector<float> coded(const std::vector<float>& x, float levels) {
  float low = x[0], high = x[0];
  for (const float value : x) low = std::min(low, value), high = std::max(high, value);
  const float step = (high - low) / levels;
  std::vector<float> out;
  for (const float value : x) {
    const float code = step == 0 ? 0.0F : std::round((value - low) / step);
    out.push_back(low + step * code);
  }
  return out;
}

Matrix per_row(const Matrix& rows, float levels) {
  Matrix out;
  for (const Vector& row : rows) {
    const std::vector<float> x = coded({row.begin(), row.end()}, levels);
    out.emplace_back(x.begin(), x.end());
  }
  return out;
}

Matrix per_feature(const Matrix& rows, float levels) {
  Matrix out = rows;
  for (size_t c = 0; c < rows[0].size(); ++c) {
    std::vector<float> column;
    for (const Vector& row : rows) column.push_back(static_cast<float>(row[c]));
    column = coded(column, levels);
    for (size_t r = 0; r < rows.size(); ++r) out[r][c] = column[r];
  }
  return out;
}

}  // namespace

RoundTrip round_trip_of(const std::string& codec) {
  if (codec == "coarse") return [](const Matrix& rows) { return per_row(rows, 15); };
  if (codec == "column4") return [](const Matrix& rows) { return per_feature(rows, 7); };
  if (codec == "mixed8") return [](const Matrix& rows) { return per_feature(rows, 15); };
  if (codec == "float32" || codec == "exact4" || codec.empty())
    return [](const Matrix& rows) { return rows; };
  throw std::logic_error("no codec " + codec);
}

void OracleLayer::truncate(int64_t n) {
  rows_.resize(at(n));
  std::erase_if(dropped_, [&](const auto& row) { return row.first.second >= n; });
}

/// min over selectors of position + recent - 1, for those that flag 0 on every head of the list.
int64_t OracleLayer::until(int list, int64_t p) const {
  int64_t until = kNever;
  for (size_t s = 0; s < rules_->flags.size(); ++s) {
    const FlagRules& flags = rules_->flags[s];
    if (p < flags.sinks) continue;
    bool keeps = false;
    for (int h = 0; h < rules_->kv_heads; ++h)
      if (h * rules_->lists / rules_->kv_heads == list)
        keeps = keeps || rows_[at(p)].keep[s][flags.per_head ? at(h) : 0];
    if (!keeps) until = std::min(until, p + flags.recent - 1);
  }
  return until;
}

bool OracleLayer::lives(int list, int64_t p, int64_t q) const {
  const auto dropped = dropped_.find({list, p});
  return q <= until(list, p) && (dropped == dropped_.end() || q <= dropped->second);
}

/// Token by token: at each q the dead leave, then the first `tile` rows that are in no tile form
/// one if the last of them has reached its age.
OracleLayer::Encoded OracleLayer::encode(int list, int64_t newest) const {
  Encoded out{std::vector<int64_t>(rows_.size(), kNever),
              std::vector<std::vector<int64_t>>(rows_.size())};
  std::vector<int64_t> waiting;
  for (int64_t q = 0; q <= newest; ++q) {
    if (q >= rules_->first) waiting.push_back(q);
    std::erase_if(waiting, [&](int64_t p) { return !lives(list, p, q); });
    while (std::ssize(waiting) >= rules_->tile &&
           waiting[at(rules_->tile - 1)] + rules_->lag <= q) {
      const std::vector<int64_t> tile(waiting.begin(), waiting.begin() + rules_->tile);
      waiting.erase(waiting.begin(), waiting.begin() + rules_->tile);
      for (const int64_t p : tile) out.when[at(p)] = q, out.tile[at(p)] = tile;
    }
  }
  return out;
}

std::vector<int64_t> OracleLayer::encoded_at(int list, int64_t newest) const {
  return encode(list, newest).when;
}

std::vector<int64_t> OracleLayer::living(int list, int64_t next) const {
  std::vector<int64_t> out;
  for (int64_t p = 0; p < size(); ++p)
    if (lives(list, p, next)) out.push_back(p);
  return out;
}

/// One row of one head, as it came, as recent rows are stored, or as its tile decodes.
Matrix OracleLayer::form(int64_t p, int head, bool of_keys, bool encoded,
                         const Encoded& all) const {
  const auto given = [&](int64_t i) {
    return (of_keys ? rows_[at(i)].keys : rows_[at(i)].values)[at(head)];
  };
  const bool has_recent = rules_->lag > 0 || rules_->tile > 1 || p < rules_->first;
  const auto stored = [&](int64_t i) {
    return has_recent ? rules_->recent_form({given(i)})[0] : given(i);
  };
  if (!encoded) return {stored(p)};
  // The codec's own tile among the rows that moved together.
  const std::vector<int64_t>& together = all.tile[at(p)];
  const int64_t size = of_keys ? rules_->key_tile : rules_->value_tile;
  const int64_t mine = std::ranges::find(together, p) - together.begin(),
                begin = mine / size * size;
  Matrix tile;
  for (int64_t i = begin; i < begin + size; ++i) tile.push_back(stored(together[at(i)]));
  return {(of_keys ? rules_->key_form : rules_->value_form)(tile)[at(mine - begin)]};
}

Vector OracleLayer::held(int64_t p, int head, bool of_keys) const {
  const Encoded all = encode(head * rules_->lists / rules_->kv_heads, size() - 1);
  return form(p, head, of_keys, all.when[at(p)] < size(), all)[0];
}

OracleLayer::Answer OracleLayer::attend(const Matrix& queries, int64_t q, int64_t begin,
                                        int64_t end, Policy policy) const {
  std::vector<Encoded> encoded;
  for (int list = 0; list < rules_->lists; ++list) encoded.push_back(encode(list, end - 1));
  Answer answer;
  for (int h = 0; h < rules_->heads; ++h) {
    const int head = h / (rules_->heads / rules_->kv_heads);
    const int list = head * rules_->lists / rules_->kv_heads;
    Vector logits;
    Matrix values;
    for (int64_t p = 0; p <= q; ++p) {
      if (rules_->window_left >= 0 && p < q - rules_->window_left) continue;
      Vector key, value;
      if (policy == Policy::raw_chunk && p >= begin) {
        key = rows_[at(p)].keys[at(head)];
        value = rows_[at(p)].values[at(head)];
      } else {
        // raw_chunk reads older rows as they lay when the pass began.
        const int64_t now = policy == Policy::raw_chunk ? begin - 1 : q;
        if (!lives(list, p, policy == Policy::raw_chunk ? begin : q)) continue;
        const bool is_encoded = encoded[at(list)].when[at(p)] <= now;
        key = form(p, head, true, is_encoded, encoded[at(list)])[0];
        value = form(p, head, false, is_encoded, encoded[at(list)])[0];
      }
      double logit = 0;
      for (size_t c = 0; c < key.size(); ++c) logit += queries[at(h)][c] * key[c];
      logits.push_back(logit * rules_->scale);
      values.push_back(value);
    }
    double most = -std::numeric_limits<double>::infinity(), sum = 0;
    for (const double x : logits) most = std::max(most, x);
    Vector out(at(rules_->value_dim), 0.0);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double w = std::exp(logits[i] - most);
      sum += w;
      for (size_t c = 0; c < out.size(); ++c) out[c] += w * values[i][c];
    }
    for (double& x : out) x = sum > 0 ? x / sum : 0;
    answer.out.push_back(out);
    answer.lse.push_back(sum > 0 ? most + std::log(sum) : -std::numeric_limits<double>::infinity());
  }
  return answer;
}

}  // namespace kvlab::test
