#include "tests/kernels/oracle.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace kvlab::oracle {

Answer attend(const std::vector<double>& query, int64_t position, const std::vector<Row>& rows,
              const Head& head, int64_t value_dim) {
  std::vector<double> logits;
  double max = kNone;
  Answer answer;
  for (const Row& row : rows) {
    double x = 0;
    for (size_t c = 0; c < query.size(); ++c) x += query[c] * row.key[c];
    x = head.scale * x + head.slope * static_cast<double>(row.position - position);
    if (!head.distance_bias.empty()) {
      const int64_t distance = head.seen_from.value_or(position) - row.position;
      const int64_t last = static_cast<int64_t>(head.distance_bias.size()) - 1;
      x += head.distance_bias[static_cast<size_t>(std::clamp<int64_t>(distance, 0, last))];
    }
    if (head.softcap > 0) x = head.softcap * std::tanh(x / head.softcap);
    const bool visible = row.from <= position && position <= row.until &&
                         (head.window_left < 0 || row.position >= position - head.window_left);
    logits.push_back(visible ? x : kNone);
    if (visible) {
      max = std::max(max, x);
      answer.largest_logit = std::max(answer.largest_logit, std::abs(x));
    }
  }
  if (head.sink) max = std::max(max, *head.sink);
  answer.out.assign(static_cast<size_t>(value_dim), 0.0);
  answer.probability.assign(rows.size(), 0.0);
  if (max == kNone) return answer;
  double sum = head.sink ? std::exp(*head.sink - max) : 0.0;
  for (const double x : logits) sum += x == kNone ? 0.0 : std::exp(x - max);
  for (size_t t = 0; t < rows.size(); ++t) {
    if (logits[t] == kNone) continue;  // what a hidden row holds is nobody's business
    answer.probability[t] = std::exp(logits[t] - max) / sum;
    for (size_t c = 0; c < answer.out.size(); ++c)
      answer.out[c] += answer.probability[t] * rows[t].value[c];
  }
  answer.lse = max + std::log(sum);
  return answer;
}

std::vector<double> rotate(std::vector<double> x, int64_t position,
                           const std::vector<double>& inv_freq, bool interleaved, double factor) {
  const size_t pairs = inv_freq.size();
  for (size_t c = 0; c < pairs; ++c) {
    const double angle = static_cast<double>(position) * inv_freq[c];
    const double cosine = factor * std::cos(angle), sine = factor * std::sin(angle);
    double& a = interleaved ? x[2 * c] : x[c];
    double& b = interleaved ? x[2 * c + 1] : x[c + pairs];
    const double turned_a = a * cosine - b * sine, turned_b = b * cosine + a * sine;
    a = turned_a;
    b = turned_b;
  }
  return x;
}

namespace {

/// Element (i, j) of Sylvester's matrix: -1 to the number of ones in i & j.
double sylvester(size_t i, size_t j) { return std::popcount(i & j) % 2 == 0 ? 1.0 : -1.0; }

}  // namespace

std::vector<double> hadamard(const std::vector<double>& x) {
  const size_t r = x.size(), p = r & (~r + 1), blocks = r / p;
  std::vector<double> y(r, 0.0);
  for (size_t b = 0; b < blocks; ++b)
    for (size_t i = 0; i < p; ++i)
      for (size_t j = 0; j < p; ++j)
        y[b * p + i] += sylvester(i, j) * x[b + j * blocks] / std::sqrt(static_cast<double>(p));
  return y;
}

std::vector<double> hadamard_back(const std::vector<double>& y) {
  const size_t r = y.size(), p = r & (~r + 1), blocks = r / p;
  std::vector<double> x(r, 0.0);
  for (size_t b = 0; b < blocks; ++b)
    for (size_t i = 0; i < p; ++i)
      for (size_t j = 0; j < p; ++j)
        x[b + j * blocks] += sylvester(i, j) * y[b * p + i] / std::sqrt(static_cast<double>(p));
  return x;
}

}  // namespace kvlab::oracle
