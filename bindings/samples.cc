// samples(): what a task asks, without asking it.

#include <pybind11/stl.h>

#include "bindings/parts.h"
#include "eval/catalogue.h"
#include "eval/experiment/samples.h"

namespace py = pybind11;

namespace kvlab::python {

void add_samples(py::module_& module) {
  using py::arg;
  module.def(
      "samples",
      [](const py::object& task, const py::object& model, uint64_t seed, int64_t count) {
        const Experiment experiment = experiment_of_tasks(
            Json::array({to_json(task, "samples: task")}), to_json(model, "samples: model"), seed,
            {}, registry(), catalogue());
        Json records = Json::array();
        {
          const py::gil_scoped_release release;
          each_sample(experiment, count, registry(), catalogue(),
                      [&](const Json& record) { records.push_back(record); });
        }
        return to_python(records);
      },
      arg("task"), arg("model"), arg("seed"), arg("count"));
}

}  // namespace kvlab::python
