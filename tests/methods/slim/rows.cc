#include "tests/methods/slim/rows.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace kvlab::test {

at::Tensor gaussian(int64_t rows, int64_t columns, unsigned seed, double deviation) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, deviation);
  at::Tensor all = at::zeros({rows, columns}, at::kDouble);
  std::generate_n(all.data_ptr<double>(), all.numel(), [&] { return normal(random); });
  return all;
}

at::Tensor matrix(int64_t rows, std::initializer_list<double> numbers) {
  at::Tensor all = at::zeros({rows, std::ssize(numbers) / rows}, at::kDouble);
  std::ranges::copy(numbers, all.data_ptr<double>());
  return all;
}

at::Tensor identity(int64_t n) {
  at::Tensor all = at::zeros({n, n}, at::kDouble);
  for (int64_t i = 0; i < n; ++i) all.data_ptr<double>()[i * n + i] = 1;
  return all;
}

double rounded_to(double x, int digits) {
  if (x == 0) return 0;
  int exponent = 0;
  const double mantissa = std::frexp(x, &exponent);  // in [0.5, 1)
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, digits + 1)), exponent - digits - 1);
}

int digits_of(Dtype format) { return format == Dtype::bf16 ? 7 : 10; }

at::Tensor rounded_to(const at::Tensor& x, Dtype format) {
  at::Tensor out = x.clone();
  double* const data = out.data_ptr<double>();
  std::transform(data, data + out.numel(), data,
                 [&](double one) { return rounded_to(one, digits_of(format)); });
  return out;
}

double apart(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  double difference = 0, size = 0;
  for (int64_t i = 0; i < y.numel(); ++i) {
    difference += std::pow(x.data_ptr<double>()[i] - y.data_ptr<double>()[i], 2);
    size += std::pow(y.data_ptr<double>()[i], 2);
  }
  return std::sqrt(difference / size);
}

Example Example::random(int64_t width, int64_t heads, int64_t tokens, unsigned seed) {
  Example e;
  e.site = {.model_width = width,
            .num_kv_heads = heads,
            .head_dim = width / heads,
            .value_dim = width / heads,
            .rotary = slim::Rotary::full,
            .rotary_dim = width / heads};
  const double unit = 1 / std::sqrt(static_cast<double>(width));
  e.weights = {.key = gaussian(width, width, seed, unit),
               .value = gaussian(width, width, seed + 1, unit)};
  e.see(gaussian(tokens, width, seed + 2));
  return e;
}

void Example::see(const at::Tensor& x) {
  const int64_t learned = x.size(0) - x.size(0) / 4;
  inputs.learned = x.narrow(0, 0, learned).contiguous();
  inputs.held_out = x.narrow(0, learned, x.size(0) - learned).contiguous();
  inputs.covariance = at::mm(inputs.learned.t(), inputs.learned) / static_cast<double>(learned);
}

slim::Analysis Example::analysis(Dtype stored, bool least_error) const {
  return slim::Analysis({.site = site,
                         .weights = weights,
                         .inputs = &inputs,
                         .stored = stored,
                         .least_error = least_error});
}

}  // namespace kvlab::test
