#pragma once
// TensorView and at::Tensor: the same memory under two names.  LibTorch's own headers cost seconds
// per file, so only its types are named here; a .cc that computes includes them itself.

#include <string>

#include "core/artifact.h"
#include "core/types.h"

namespace at {
class Tensor;
}
namespace c10 {
enum class ScalarType : int8_t;
}

namespace kvlab {

c10::ScalarType scalar_type(Dtype dtype);
Dtype dtype_of(c10::ScalarType type);  // E_UNSUPPORTED: a type kvlab has no name for

/// Shares memory and does not keep it alive: valid as long as the view is.
at::Tensor to_torch(const TensorView& view);

/// Any strides, at most TensorView::kMaxDims dimensions (E_UNSUPPORTED).  Valid while the tensor's
/// storage lives.
TensorView view_of(const at::Tensor& tensor);

/// The same with the storage kept alive.
Tensor hold(std::string name, const at::Tensor& tensor);

}  // namespace kvlab
