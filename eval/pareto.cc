#include "eval/pareto.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kvlab {
namespace {

std::vector<Tradeoff> front_of(std::span<const Tradeoff> points) {
  std::vector<Tradeoff> front;
  for (const size_t i : pareto_front(points)) front.push_back(points[i]);
  return front;
}

}  // namespace

std::vector<size_t> pareto_front(std::span<const Tradeoff> points) {
  std::vector<size_t> order(points.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // From the largest cr down, the better score first: who then scores more than all before stays.
  std::ranges::stable_sort(order, [&](size_t a, size_t b) {
    const Tradeoff &x = points[a], &y = points[b];
    return x.cr != y.cr ? x.cr > y.cr : x.score > y.score;
  });
  std::vector<size_t> front;
  for (const size_t i : order)
    if (front.empty() || points[i].score > points[front.back()].score) front.push_back(i);
  std::ranges::reverse(front);
  return front;
}

std::optional<double> cr_at_share(std::span<const Tradeoff> points, double dense, double share) {
  const std::vector<Tradeoff> front = front_of(points);
  const double least = share * dense;
  std::optional<double> best;
  for (size_t i = 0; i < front.size(); ++i) {  // scores fall along the front
    if (front[i].score >= least) {
      best = front[i].cr;
    } else if (best) {
      const Tradeoff &above = front[i - 1], &below = front[i];
      const double part = (above.score - least) / (above.score - below.score);
      return above.cr * std::exp2(part * std::log2(below.cr / above.cr));
    }
  }
  return best;
}

std::optional<double> pareto_mean(std::span<const Tradeoff> points, double dense) {
  const std::vector<Tradeoff> front = front_of(points);
  if (front.size() < 2 || dense == 0) return std::nullopt;
  double area = 0;
  for (size_t i = 1; i < front.size(); ++i)
    area += std::log2(front[i].cr / front[i - 1].cr) * (front[i].score + front[i - 1].score) / 2;
  return area / dense / std::log2(front.back().cr / front.front().cr);
}

std::vector<Curve> curves(const Tradeoff& dense,
                          const std::map<std::string, std::vector<Tradeoff>>& methods) {
  std::vector<Curve> all;
  for (const auto& [method, settings] : methods) {
    if (settings.size() < 2) continue;
    std::vector<Tradeoff> points = settings;
    points.push_back(dense);
    const auto is_own = [&](size_t point) { return point < settings.size(); };
    all.push_back(
        {.method = method,
         .settings = settings.size(),
         .on_front = static_cast<size_t>(std::ranges::count_if(pareto_front(points), is_own)),
         .cr_at_1pct = cr_at_share(points, dense.score, 0.99),
         .mean = pareto_mean(points, dense.score)});
  }
  return all;
}

}  // namespace kvlab
