#include "eval/experiment/workers.h"

#include <poll.h>

#include <cerrno>
#include <exception>
#include <memory>

#include "core/error.h"
#include "eval/child_process.h"
#include "eval/experiment/serve_cells.h"

namespace kvlab {
namespace {

constexpr int kAskEvery = 100;  // milliseconds

std::string name_of_cell(const PlannedCell& cell) {
  return cell.cell->task.name + ", " + cell.cell->title;
}

/// A process and the cell it runs.
struct Worker {
  Worker(int number, const WorkerSetup& setup)
      : child("worker " + std::to_string(number), setup.command.at(0),
              {setup.command.begin() + 1, setup.command.end()}) {
    child.write_line(setup.greeting.dump());
  }
  void begin(const PlannedCell& next) {
    cell = &next;
    child.write_line(worker_request(next).dump());
  }

  ChildProcess child;
  const PlannedCell* cell = nullptr;
};

class Pool {
 public:
  Pool(const WorkerSetup& setup, const CellTraffic& traffic) : setup_(setup), traffic_(traffic) {}

  bool run() {
    while (static_cast<int>(workers_.size()) < setup_.count && begin_next(nullptr)) continue;
    while (!workers_.empty()) {
      if (traffic_.interrupted && traffic_.interrupted()) return false;
      for (const auto& worker : that_spoke()) hear(worker);
    }
    if (failure_) std::rethrow_exception(failure_);
    return true;
  }

 private:
  using WorkerPtr = std::shared_ptr<Worker>;

  /// False: there is no cell to be begun, and `worker` (null: a new one) is not needed any more.
  bool begin_next(WorkerPtr worker) {
    const PlannedCell* const cell = failure_ ? nullptr : traffic_.next();
    if (cell == nullptr) return false;
    try {
      if (!worker) {
        worker = std::make_shared<Worker>(++started_, setup_);
        workers_.push_back(worker);
      }
      worker->begin(*cell);
    } catch (const Error& error) {
      lost(worker, *cell, error);
    }
    return true;
  }

  std::vector<WorkerPtr> that_spoke() const {
    std::vector<pollfd> files;
    for (const WorkerPtr& worker : workers_)
      files.push_back({.fd = worker->child.descriptor(), .events = POLLIN, .revents = 0});
    std::vector<WorkerPtr> spoke;
    const int ready = ::poll(files.data(), files.size(), kAskEvery);
    KVLAB_CHECK(ready >= 0 || errno == EINTR);
    for (size_t i = 0; ready > 0 && i < files.size(); ++i)
      if (files[i].revents != 0) spoke.push_back(workers_[i]);
    return spoke;
  }

  void hear(const WorkerPtr& worker) {
    std::vector<std::string> lines;
    try {
      lines = worker->child.read_arrived();
    } catch (const Error& error) {
      // Who interrupts all processes of a terminal means all of us.
      if (!traffic_.interrupted || !traffic_.interrupted()) lost(worker, *worker->cell, error);
    }
    for (const std::string& line : lines) take(worker, parse_json(line, "worker"));
  }

  void take(const WorkerPtr& worker, const Json& message) {
    if (message.contains("fed")) {
      if (traffic_.fed) traffic_.fed(message.at("fed"), running());
    } else if (message.contains("step")) {
      if (traffic_.step) traffic_.step(message.at("step"));
    } else if (message.contains("finished")) {
      traffic_.done(*worker->cell, message.at("finished"));
      if (!begin_next(worker)) std::erase(workers_, worker);
    } else {
      const Json& error = message.at("error");
      failed(worker, Error(error.at("code"), name_of_cell(*worker->cell) + ": " +
                                                 error.at("message").get<std::string>()));
    }
  }

  void lost(const WorkerPtr& worker, const PlannedCell& cell, const Error& error) {
    std::string sentence = "cell " + cell.cell->id + " (" + name_of_cell(cell) +
                           ") is not finished: " + std::string(error.message()) +
                           "; too little memory? each worker holds a model: try fewer --jobs. "
                           "Finished cells are kept: the same command goes on";
    failed(worker, Error("E_WORKER", sentence));
  }

  void failed(const WorkerPtr& worker, const Error& error) {
    std::erase(workers_, worker);
    const bool is_first = !failure_;
    if (is_first) failure_ = std::make_exception_ptr(error);
    if (!traffic_.warn || (is_first && workers_.empty())) return;
    const std::string rest =
        workers_.empty() ? "" : "; waiting for " + running() + " to be finished";
    traffic_.warn(std::string(error.message()) + rest);
  }

  std::string running() const {
    std::string names;
    for (const WorkerPtr& worker : workers_)
      names += (names.empty() ? "" : " | ") + name_of_cell(*worker->cell);
    return names;
  }

  const WorkerSetup& setup_;
  const CellTraffic& traffic_;
  std::vector<WorkerPtr> workers_{};  // each with a cell
  std::exception_ptr failure_{};      // the first
  int started_ = 0;
};

}  // namespace

bool run_in_workers(const WorkerSetup& setup, const CellTraffic& traffic) {
  return Pool(setup, traffic).run();
}

}  // namespace kvlab
