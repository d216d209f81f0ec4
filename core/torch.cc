#include "core/torch.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "core/error.h"

namespace kvlab {
namespace {

constexpr std::array<std::pair<Dtype, at::ScalarType>, 10> kTypes{{{Dtype::f64, at::kDouble},
                                                                   {Dtype::f32, at::kFloat},
                                                                   {Dtype::f16, at::kHalf},
                                                                   {Dtype::bf16, at::kBFloat16},
                                                                   {Dtype::i64, at::kLong},
                                                                   {Dtype::i32, at::kInt},
                                                                   {Dtype::i16, at::kShort},
                                                                   {Dtype::i8, at::kChar},
                                                                   {Dtype::u8, at::kByte},
                                                                   {Dtype::boolean, at::kBool}}};

at::Device torch_device(Device device) {
  if (device.kind == Device::Kind::cpu) return at::kCPU;
  return {at::kCUDA, static_cast<at::DeviceIndex>(device.index)};
}

}  // namespace

at::ScalarType scalar_type(Dtype dtype) {
  const auto* found = std::ranges::find(kTypes, dtype, &std::pair<Dtype, at::ScalarType>::first);
  KVLAB_CHECK(found != kTypes.end());
  return found->second;
}

Dtype dtype_of(at::ScalarType type) {
  const auto* found = std::ranges::find(kTypes, type, &std::pair<Dtype, at::ScalarType>::second);
  KVLAB_REQUIRE(found != kTypes.end(), "E_UNSUPPORTED", "tensor of type ", at::toString(type),
                ": kvlab knows float64, float32, float16, bfloat16, int64, int32, int16, int8, "
                "uint8 and bool");
  return found->first;
}

at::Tensor to_torch(const TensorView& view) {
  const auto dims = static_cast<size_t>(view.dims);
  return at::from_blob(
      view.data, at::IntArrayRef(view.sizes.data(), dims),
      at::IntArrayRef(view.strides.data(), dims),
      at::TensorOptions(scalar_type(view.dtype)).device(torch_device(view.device)));
}

TensorView view_of(const at::Tensor& tensor) {
  KVLAB_REQUIRE(tensor.dim() <= TensorView::kMaxDims, "E_UNSUPPORTED", "tensor of ", tensor.dim(),
                " dimensions: kvlab's have at most ", TensorView::kMaxDims);
  TensorView view{.data = tensor.data_ptr(),
                  .dtype = dtype_of(tensor.scalar_type()),
                  .dims = static_cast<int>(tensor.dim())};
  if (tensor.is_cuda()) view.device = {Device::Kind::cuda, tensor.get_device()};
  std::ranges::copy(tensor.sizes(), view.sizes.begin());
  std::ranges::copy(tensor.strides(), view.strides.begin());
  return view;
}

Tensor hold(std::string name, const at::Tensor& tensor) {
  return {std::move(name), view_of(tensor), std::make_shared<at::Tensor>(tensor)};
}

}  // namespace kvlab
