#include "bindings/tensor.h"

#include <pybind11/gil_safe_call_once.h>
#include <pybind11/stl.h>

#include "core/error.h"

namespace py = pybind11;

namespace kvlab::python {
namespace {

/// What is looked up in `torch` once.
struct Torch {
  py::object tensor, strided, empty;
};

const Torch& torch() {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<Torch> storage;
  return storage
      .call_once_and_store_result([] {
        const py::module_ module = py::module_::import("torch");
        return Torch{module.attr("Tensor"), module.attr("strided"), module.attr("empty")};
      })
      .get_stored();
}

std::string text_of(const py::handle& value) { return py::str(value).cast<std::string>(); }

/// "torch.bfloat16" -> Dtype::bf16
Dtype dtype_of(const py::handle& tensor, std::string_view who) {
  const std::string name = text_of(tensor.attr("dtype"));
  const std::string own = name == "torch.bool" ? "boolean" : name.substr(name.find('.') + 1);
  try {
    return dtype_named(own);
  } catch (const Error&) {
    fail("E_UNSUPPORTED", who, " is ", name,
         ", which kvlab does not store; pass float32, bfloat16 or float16");
  }
}

void check_memory(const py::handle& tensor, std::string_view who) {
  const std::string device = text_of(tensor.attr("device"));
  KVLAB_REQUIRE(tensor.attr("device").attr("type").cast<std::string>() == "cpu", "E_UNSUPPORTED",
                who, " lies on ", device, ", and this cache on cpu; pass it `.cpu()`");
  KVLAB_REQUIRE(py::object(tensor.attr("layout")).is(torch().strided), "E_UNSUPPORTED", who,
                " has layout ", text_of(tensor.attr("layout")), "; pass it `.to_dense()`");
  KVLAB_REQUIRE(!tensor.attr("requires_grad").cast<bool>(), "E_UNSUPPORTED", who,
                " requires grad, and a cache has no backward pass; pass it `.detach()`");
  KVLAB_REQUIRE(!tensor.attr("is_neg")().cast<bool>(), "E_UNSUPPORTED", who,
                " is a lazy negation; pass it `.resolve_neg()`");
}

}  // namespace

TensorView view_of(const py::handle& tensor, std::string_view who) {
  if (!py::isinstance(tensor, torch().tensor))
    throw py::type_error(std::string(who) + " is a " +
                         text_of(py::type::of(tensor).attr("__name__")) + ", not a torch.Tensor");
  check_memory(tensor, who);
  TensorView view{.dtype = dtype_of(tensor, who)};
  const auto sizes = tensor.attr("shape").cast<std::vector<int64_t>>();
  const auto strides = tensor.attr("stride")().cast<std::vector<int64_t>>();
  KVLAB_REQUIRE(std::ssize(sizes) <= TensorView::kMaxDims, "E_UNSUPPORTED", who, " has ",
                sizes.size(), " dimensions; at most ", TensorView::kMaxDims, " are known");
  view.dims = static_cast<int>(sizes.size());
  std::ranges::copy(sizes, view.sizes.begin());
  std::ranges::copy(strides, view.strides.begin());
  KVLAB_REQUIRE(view.numel() > 0, "E_SHAPE", who, " has no elements: ", sizes_text(view));
  view.data = reinterpret_cast<void*>(tensor.attr("data_ptr")().cast<uintptr_t>());
  return view;
}

py::object empty(const std::vector<int64_t>& sizes, Dtype dtype) {
  const py::object type = py::module_::import("torch").attr(std::string(name_of(dtype)).c_str());
  return torch().empty(sizes, py::arg("dtype") = type, py::arg("device") = "cpu");
}

std::string sizes_text(const TensorView& view) {
  std::string text = "[";
  for (int i = 0; i < view.dims; ++i) text += (i > 0 ? ", " : "") + std::to_string(view.size(i));
  return text + "]";
}

}  // namespace kvlab::python
