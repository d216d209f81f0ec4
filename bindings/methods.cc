// Which methods there are, and what each is.

#include <pybind11/stl.h>

#include "bindings/parts.h"
#include "core/error.h"
#include "eval/method_card.h"
#include "kernels/cpu_engine.h"

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
  module.def(
      "method_info",
      [](const py::handle& method, int64_t tokens) {
        KVLAB_REQUIRE(tokens >= 1 && tokens <= 1 << 20, "E_CONFIG", "method_info: tokens ", tokens,
                      " is outside 1..", 1 << 20);
        const std::vector<MethodSpec> specs =
            parse_methods(to_json(method, "method_info: method"), registry());
        Json card;
        {
          const py::gil_scoped_release release;
          card = method_card(specs, registry(), make_cpu_engine(), tokens);
        }
        return to_python(card);
      },
      py::arg("method"), py::arg("tokens"));
}

}  // namespace kvlab::python
