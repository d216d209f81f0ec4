#include "eval/models/weight_reader.h"

#include <ATen/core/Tensor.h>

#include <cstring>

#include "core/error.h"
#include "core/torch.h"

namespace kvlab {
namespace {

using Sizes = WeightReader::Sizes;

std::string shown(const Sizes& sizes) {
  std::string text = "[";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

Sizes sizes_of(const TensorView& view) {
  return {view.sizes.begin(), view.sizes.begin() + view.dims};
}

}  // namespace

Tensor WeightReader::read(const std::string& name, const Sizes& sizes, Dtype dtype) {
  Tensor tensor = files_.tensor(name);
  read_.insert(name);
  const Dtype stored = tensor.view.dtype;
  KVLAB_REQUIRE(sizes_of(tensor.view) == sizes, "E_SHAPE", where_, ": tensor `", name, "` is ",
                shown(sizes_of(tensor.view)), ", the config says ", shown(sizes));
  KVLAB_REQUIRE(stored == Dtype::f32 || stored == Dtype::f16 || stored == Dtype::bf16,
                "E_UNSUPPORTED", where_, ": tensor `", name, "` is ", name_of(stored),
                "; kvlab reads weights of float32, float16 and bfloat16");
  check_finite(tensor.view, where_ + ": tensor `" + name + "`");
  return stored == dtype ? tensor : converted(tensor, dtype);
}

Linear WeightReader::linear(const std::string& name, int64_t out, int64_t in, Bias bias) {
  Linear linear{.weight = read(name + ".weight", {out, in})};
  if (bias == Bias::present) linear.bias = read(name + ".bias", {out});
  return linear;
}

void WeightReader::must_repeat(std::string_view name, std::string_view of,
                               std::string_view why) const {
  const TensorView one = files_.tensor(name).view, other = files_.tensor(of).view;
  KVLAB_REQUIRE(one.dtype == other.dtype && sizes_of(one) == sizes_of(other) &&
                    std::memcmp(one.data, other.data,
                                static_cast<size_t>(one.numel() * size_of(one.dtype))) == 0,
                "E_WEIGHT", where_, ": ", why, ", but ", name, " differs from ", of);
}

void WeightReader::finish(std::string_view family,
                          const std::function<bool(std::string_view name)>& is_spare) const {
  for (const std::string& name : files_.names())
    KVLAB_REQUIRE(read_.contains(name) || is_spare(name), "E_WEIGHT", where_, ": tensor `",
                  printable(name), "` belongs to no part of a ", family,
                  " network with this config.json");
}

Tensor WeightReader::converted(const Tensor& tensor, Dtype dtype) const {
  Tensor result = hold(tensor.name, to_torch(tensor.view).to(scalar_type(dtype)));
  if (dtype == Dtype::f16)  // the only conversion that can overflow where the source did not
    check_finite(result.view, where_ + ": tensor `" + tensor.name +
                                  "` as float16 (bfloat16 has float32's range)");
  return result;
}

}  // namespace kvlab
