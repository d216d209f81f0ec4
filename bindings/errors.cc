// kvlab::Error becomes kvlab.Error: its code, the class that belongs to it, its text.

#include "core/error.h"

#include <exception>

#include "bindings/parts.h"

namespace py = pybind11;

namespace kvlab::python {
namespace {

void raise(const Error& error) {
  const std::string_view text = error.what();
  // Texts are UTF-8 (kvlab::printable); were one not, it is still better shown than lost.
  PyObject* shown = PyUnicode_DecodeUTF8(text.data(), std::ssize(text), "backslashreplace");
  if (shown == nullptr) return;
  const auto words = py::reinterpret_steal<py::object>(shown);
  const py::object type = py::module_::import("kvlab.errors").attr("class_of")(error.code());
  PyErr_SetObject(type.ptr(), words.ptr());
}

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(std::move(thrown));
  } catch (const Error& error) {
    raise(error);
  }
}

}  // namespace

void add_errors(py::module_&) { py::register_local_exception_translator(&translate); }

}  // namespace kvlab::python
