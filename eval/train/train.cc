#include "eval/train/train.h"

#include "core/error.h"
#include "core/files.h"
#include "eval/lock.h"
#include "eval/train/curve.h"
#include "eval/train/device.h"
#include "eval/train/export.h"
#include "eval/train/language_model.h"
#include "eval/train/train_log.h"

namespace kvlab {
namespace {

void make_directory(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  KVLAB_REQUIRE(
      std::filesystem::is_directory(path), "E_DISK", path.string(),
      ": cannot be used as a run directory: ", error ? error.message() : "a file is in the way");
}

void draw_curve(const TrainConfig& config) {
  const std::vector<Json> log = read_log(config.output / "log.jsonl");
  write_file(config.output / "curve.svg", training_curve(log, config.name));
}

}  // namespace

Json to_json(const TrainResult& result) {
  return {{"steps", result.steps},
          {"parameters", result.parameters},
          {"validation", result.validation},
          {"model", result.model.string()}};
}

TrainResult train_language_model(const TrainConfig& config, const TrainOptions& options,
                                 const LoopObserver& observer) {
  const at::Device device = training_device(options.device);
  LanguageModel model(config, device);
  make_directory(config.output);
  const FileLock lock(config.output / "lock");
  LoopObserver watched = observer;
  watched.validated = [&](const Json& numbers) {
    draw_curve(config);
    if (observer.validated) observer.validated(numbers);
  };
  const LoopResult result = run_loop(model,
                                     {.optimiser = config.optimiser,
                                      .schedule = config.schedule,
                                      .directory = config.output,
                                      .checkpoint_every = config.checkpoint_every,
                                      .validate_every = config.validate_every,
                                      .identity = config.identity(),
                                      .peak_operations = peak_operations(config.dtype, device)},
                                     watched);
  TrainResult trained{.steps = result.steps,
                      .stopped = result.stopped,
                      .validation = result.validation,
                      .parameters = model.parameter_count()};
  if (result.stopped) return trained;
  trained.model = options.export_to.empty() ? config.output / "model" : options.export_to;
  export_model(trained.model, config.model, model.parameters(), config.data);
  write_file(config.output / "config.json", config.effective.dump(2) + "\n");
  return trained;
}

}  // namespace kvlab
