#include "eval/models/distance_buckets.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/log.h>
#include <ATen/ops/where.h>

#include <cmath>

namespace kvlab {
namespace {

/// Of distances that are not negative, int64.
at::Tensor bucket_of(const at::Tensor& distance, int64_t count, int64_t max_distance) {
  const int64_t exact = count / 2;
  const double span = std::log(static_cast<double>(max_distance) / static_cast<double>(exact));
  const at::Tensor far = at::log(distance.clamp_min(1).to(at::kFloat).div(exact))
                             .div(span)
                             .mul(count - exact)
                             .to(at::kLong)
                             .add(exact)
                             .clamp_max(count - 1);
  return at::where(distance.lt(exact), distance, far);
}

}  // namespace

at::Tensor bias_by_distance(const at::Tensor& weights, const Buckets& buckets, int64_t first,
                            int64_t n) {
  const at::Tensor distance = at::arange(first, first + n, at::kLong);
  at::Tensor bucket;
  if (buckets.both_ways) {
    const int64_t half = buckets.count / 2;
    bucket = bucket_of(distance.abs(), half, buckets.max_distance)
                 .add(distance.gt(0).to(at::kLong).mul(half));
  } else {
    bucket = bucket_of(distance.neg().clamp_min(0), buckets.count, buckets.max_distance);
  }
  return weights.to(at::kFloat).index_select(0, bucket).transpose(0, 1).contiguous();
}

}  // namespace kvlab
