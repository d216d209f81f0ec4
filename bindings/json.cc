// JSON across the border: text that both sides' own readers and writers agree on.

#include "core/json.h"

#include "bindings/parts.h"
#include "core/error.h"

namespace py = pybind11;

namespace kvlab::python {

py::object to_python(const Json& value) {
  return py::module_::import("json").attr("loads")(canonical(value));
}

Json to_json(const py::handle& value, std::string_view where) {
  std::string text;
  try {
    const py::dict strict(py::arg("allow_nan") = false, py::arg("ensure_ascii") = false);
    text = py::module_::import("json").attr("dumps")(value, **strict).cast<std::string>();
  } catch (const py::error_already_set& error) {
    const bool is_value = error.matches(PyExc_ValueError) || error.matches(PyExc_TypeError) ||
                          error.matches(PyExc_RecursionError);
    if (!is_value) throw;
    fail("E_FORMAT", where, ": not a JSON value: ", py::str(error.value()).cast<std::string>());
  }
  return parse_json(text, where);
}

}  // namespace kvlab::python
