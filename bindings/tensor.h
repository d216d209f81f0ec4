#pragma once
// The border for tensors: a torch.Tensor as a TensorView, asked through its Python attributes, so
// that neither this module nor libkvlab links torch's Python half.  Zero copy.

#include <pybind11/pybind11.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"

namespace kvlab::python {

/// The tensor's own memory, valid while `tensor` lives.  `who` ("append: keys") begins the message.
/// TypeError: not a torch.Tensor.  E_UNSUPPORTED: another device than the CPU, another layout than
/// strided, a dtype kvlab has no name for, more than TensorView::kMaxDims dimensions, a tensor that
/// requires grad or is lazily negated.  E_SHAPE: no elements.
TensorView view_of(const pybind11::handle& tensor, std::string_view who);

/// torch.empty(sizes, dtype=dtype) on the CPU.
pybind11::object empty(const std::vector<int64_t>& sizes, Dtype dtype);

/// "[2, 3, 64]"
std::string sizes_text(const TensorView& view);

}  // namespace kvlab::python
