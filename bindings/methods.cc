// Which methods there are.

#include <pybind11/stl.h>

#include "bindings/parts.h"

namespace py = pybind11;

namespace kvlab::python {

const Registry& registry() {
  static const Registry all = [] {
    Registry made;
    register_all(made);
    return made;
  }();
  return all;
}

void add_methods(py::module_& module) {
  module.def("methods", [] { return registry().methods(); });
}

}  // namespace kvlab::python
