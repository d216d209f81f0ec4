// evaluate(): an experiment as `kvlab eval` runs it; what it prints on a terminal comes as calls.

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <exception>
#include <filesystem>
#include <optional>

#include "bindings/parts.h"
#include "core/error.h"
#include "eval/catalogue.h"
#include "eval/experiment/run.h"

namespace py = pybind11;

namespace kvlab::python {
namespace {

/// Python's part in a run that goes on without Python's lock.  What Python raises meanwhile stops
/// the run between two samples, keeps what is finished, and is raised again at the end.
class Listener {
 public:
  Listener(py::object progress, py::object warn)
      : progress_(std::move(progress)), warn_(std::move(warn)) {}

  RunObserver observer() {
    RunObserver told;
    told.warn = [this](const std::string& sentence) { call([&] { warn_(sentence); }); };
    told.interrupted = [this] {
      call([] {
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      });
      return thrown_ != nullptr;
    };
    if (!progress_.is_none())
      told.progress = [this](int64_t done, int64_t all, const std::string& what) {
        call([&] { progress_(done, all, what); });
      };
    return told;
  }

  void rethrow() const {
    if (thrown_) std::rethrow_exception(thrown_);
  }

 private:
  template <class Act>
  void call(Act&& act) {
    if (thrown_) return;
    const py::gil_scoped_acquire lock;
    try {
      act();
    } catch (const py::error_already_set&) {
      thrown_ = std::current_exception();
    }
  }

  py::object progress_, warn_;
  std::exception_ptr thrown_{};
};

/// A config: a path of a file, or the value itself.
struct Given {
  Json config{};
  std::filesystem::path folder{};
};
Given given_as(const py::handle& config) {
  if (py::isinstance<py::dict>(config)) return {.config = to_json(config, "evaluate: config")};
  const auto path = config.cast<std::filesystem::path>();
  Given given{.config = read_json(path), .folder = path.parent_path()};
  if (given.config.is_object() && !given.config.contains("name"))
    given.config["name"] = path.stem().string();
  return given;
}

/// Lines of results.jsonl and how many samples met a NaN.
py::tuple evaluate(const py::handle& config, const std::vector<std::string>& overrides,
                   const RunOptions& options, Listener& listener) {
  Given given = given_as(config);
  for (const std::string& assignment : overrides) override_value(given.config, assignment);
  const Experiment experiment =
      parse_experiment(given.config, given.folder, registry(), catalogue());
  RunResult result;
  {
    const py::gil_scoped_release release;
    result = run_experiment(experiment, registry(), catalogue(), options, listener.observer());
  }
  listener.rethrow();
  KVLAB_REQUIRE(result.stopped.empty(), "E_TIME", "evaluate: ", result.missing, " of ",
                result.missing + result.finished.size(), " cells are missing: ", result.stopped);
  KVLAB_REQUIRE(result.broken.empty(), "E_NOT_EXACT", "evaluate: ", result.broken.front());
  Json records = Json::array();
  for (Json& line : all_result_lines(experiment, result.cells(), catalogue()))
    records.push_back(std::move(line));
  return py::make_tuple(to_python(records), result.nan_samples);
}

}  // namespace

void add_evaluate(py::module_& module) {
  using py::arg;
  module.def(
      "evaluate",
      [](const py::object& config, const std::vector<std::string>& overrides,
         const std::optional<std::filesystem::path>& directory, int threads, bool allow_vacuous,
         bool allow_mixed, const py::object& progress, const py::object& warn) {
        Listener listener(progress, warn);
        return evaluate(config, overrides,
                        {.directory = directory,
                         .allow_vacuous = allow_vacuous,
                         .allow_mixed = allow_mixed,
                         .threads = threads,
                         .argv = {"kvlab.evaluate"}},
                        listener);
      },
      arg("config"), arg("overrides"), arg("directory"), arg("threads"), arg("allow_vacuous"),
      arg("allow_mixed"), arg("progress"), arg("warn"));
}

}  // namespace kvlab::python
