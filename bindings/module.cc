// The native half of the Python package `kvlab`.  What users call is in bindings/kvlab/*.py, with
// its types and its documentation; here is what those need of libkvlab.

#include "bindings/parts.h"
#include "core/version.h"

namespace py = pybind11;

namespace {

py::dict version() {
  const kvlab::Version& v = kvlab::version();
  py::dict out;
  out["number"] = v.number;
  out["commit"] = v.commit;
  out["build"] = v.build;
  out["compiler"] = v.compiler;
  out["torch"] = v.torch;
  return out;
}

}  // namespace

PYBIND11_MODULE(_kvlab, module) {
  module.def("version", &version, "What this build is: number, commit, build, compiler, torch.");
  kvlab::python::add_errors(module);
  kvlab::python::add_methods(module);
  kvlab::python::add_cache(module);
  kvlab::python::add_evaluate(module);
  kvlab::python::add_samples(module);
}
