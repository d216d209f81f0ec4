#include "eval/experiment/serve_cells.h"

#include <algorithm>
#include <new>

#include "core/error.h"
#include "eval/process.h"
#include "eval/threads.h"

namespace kvlab {
namespace {

constexpr double kTellEvery = 0.1;  // seconds

class Server {
 public:
  Server(const Registry& registry, const Catalogue& catalogue, const WorkerPipe& pipe,
         const Json& greeting)
      : pipe_(pipe),
        experiment_(parse_experiment(
            greeting.at("config"), greeting.at("folder").get<std::string>(), registry, catalogue)),
        // Whoever asks has applied the rules and read the weight files.
        planner_(registry, catalogue, {.allow_vacuous = true, .digest_models = false}),
        runner_(registry, share_of(greeting)) {}

  void answer(const Json& request) {
    PlannedCell planned = planner_.plan(cell(request.at("cell")), experiment_.folder);
    planned.facts.model_sha = request.at("model_sha");
    const auto finished =
        runner_.run(planned, {.step = [&](const std::string& what) { tell({{"step", what}}); },
                              .fed = [&](int64_t tokens) { fed(tokens); }});
    told_at_ = 0;
    fed(0);
    KVLAB_CHECK(finished.has_value());
    tell({{"finished", to_json(*finished)}});
  }

 private:
  static ThreadShare share_of(const Json& greeting) {
    const ThreadShare share{
        .asked = greeting.at("threads"), .pool = greeting.at("pool"), .jobs = greeting.at("jobs")};
    set_thread_count(share.asked > 0 ? share.asked : share.pool);
    return share;
  }

  const Cell& cell(const std::string& id) const {
    const auto found = std::ranges::find(experiment_.cells, id, &Cell::id);
    KVLAB_REQUIRE(found != experiment_.cells.end(), "E_INCOMPARABLE", "worker: cell ", id,
                  " is another one now: an artifact has changed meanwhile");
    return *found;
  }

  void fed(int64_t tokens) {
    tokens_ += tokens;
    const double now = seconds_now();
    if (tokens_ == 0 || now - told_at_ < kTellEvery) return;
    tell({{"fed", tokens_}});
    tokens_ = 0;
    told_at_ = now;
  }

  void tell(const Json& message) { pipe_.write(message.dump()); }

  const WorkerPipe& pipe_;
  Experiment experiment_;
  Planner planner_;
  CellRunner runner_;
  int64_t tokens_ = 0;  // not told yet
  double told_at_ = 0;
};

Json error_message(std::string_view code, std::string_view message) {
  return {{"error", {{"code", code}, {"message", message}}}};
}

void serve(const Registry& registry, const Catalogue& catalogue, const WorkerPipe& pipe) {
  const auto read = [&]() -> std::optional<Json> {
    const auto line = pipe.read();
    return line ? std::optional(parse_json(*line, "worker")) : std::nullopt;
  };
  const std::optional<Json> greeting = read();
  if (!greeting) return;
  KVLAB_CHECK(greeting->value("schema", "") == kWorkerSchema);
  Server server(registry, catalogue, pipe, *greeting);
  while (const std::optional<Json> request = read()) server.answer(*request);
}

}  // namespace

Json worker_greeting(const Experiment& experiment, const ThreadShare& share) {
  return {{"schema", kWorkerSchema},
          {"config", experiment.effective},
          {"folder", experiment.folder.string()},
          {"threads", share.asked},
          {"pool", share.pool},
          {"jobs", share.jobs}};
}

Json worker_request(const PlannedCell& cell) {
  return {{"cell", cell.cell->id}, {"model_sha", cell.facts.model_sha}};
}

void serve_cells(const Registry& registry, const Catalogue& catalogue, const WorkerPipe& pipe) {
  Json error;
  try {
    return serve(registry, catalogue, pipe);
  } catch (const Error& thrown) {
    error = error_message(thrown.code(), thrown.message());
  } catch (const std::bad_alloc&) {
    error = error_message("E_MEMORY", "the system has no more memory");
  } catch (const std::exception& thrown) {
    error = error_message("E_INTERNAL", thrown.what());
  }
  pipe.write(error.dump());
}

}  // namespace kvlab
