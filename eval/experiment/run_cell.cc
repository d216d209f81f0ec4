#include "eval/experiment/run_cell.h"

#include <algorithm>

#include "core/error.h"
#include "eval/dense_twin.h"
#include "eval/promises.h"
#include "eval/rules.h"

namespace kvlab {
namespace {

int64_t bytes_of(TensorView view) { return view ? view.numel() * size_of(view.dtype) : 0; }

/// Weights of the artifacts, less those that nobody needs once the method owns them.
int64_t param_delta(const Composition& composition, Model& model) {
  int64_t delta = 0;
  for (const auto& artifact : composition.artifacts) {
    for (const Tensor& tensor : artifact->tensors()) delta += bytes_of(tensor.view);
  }
  if (composition.capabilities.frees.empty()) return delta;
  const std::unique_ptr<ModelAccess> access = model.access();
  for (const std::string& role : composition.capabilities.frees) {
    for (int layer = 0; layer < static_cast<int>(model.shape().layers.size()); ++layer) {
      delta -= bytes_of(access->weight(role, layer));
    }
  }
  return delta;
}

int64_t tokens_of(const Sample& sample) {
  int64_t tokens = std::ssize(sample.encoder_tokens) + std::ssize(sample.context.ids);
  for (const Turn& turn : sample.turns) {
    tokens += static_cast<int64_t>(turn.query.ids.size()) + turn.max_new_tokens;
  }
  return tokens;
}

// Sums over keys are cut here instead of where the planner would.
constexpr SplitPolicy kOtherOrder{.kind = SplitPolicy::Kind::fixed, .tokens = 32};

bool wants_noise_floor(const PlannedCell& planned) {
  return planned.work->noise_floor && planned.cell->is_dense;
}

/// What methods may ask of the network; null where the model has nothing to show.
std::unique_ptr<ModelAccess> access_of(Model& model) {
  try {
    return model.access();
  } catch (const Error& error) {
    if (error.code() != "E_UNSUPPORTED") throw;
    return nullptr;
  }
}

void warn_if_idle(const PlannedCell& planned, CellOutcome& cell) {
  for (const Outcome& sample : cell.samples) {
    if (sample.is_nan || sample.compress_events > 0) return;
  }
  cell.warnings.push_back(planned.cell->title +
                          ": stored as many bytes as the dense cache in every sample: nothing was "
                          "compressed (a window longer than the text?)");
}

/// Beside a dense cache, in a run of its own: the one before was timed, and this one repeats it.
/// The dense method's own twin adds up in another order, so that it shows what rounding alone does.
void measure_fidelity(const Subject& subject, const Subject& reference, const Sample& sample,
                      const PlannedCell& planned, const CellRun& run, Outcome& outcome) {
  DenseTwin twin(reference);
  const Outcome again =
      run_sample(subject, sample, planned.feeding, {.fed = run.fed, .companion = &twin});
  if (again.is_nan) return;  // the dense run's, or this run's where it does not repeat itself
  outcome.repeats = again.nll == outcome.nll && again.generated == outcome.generated;
  outcome.fidelity = twin.fidelity();
  outcome.layers = twin.layers();
}

void warn_if_not_repeatable(const PlannedCell& planned, CellOutcome& cell) {
  if (std::ranges::all_of(cell.samples, &Outcome::repeats)) return;
  cell.warnings.push_back(planned.cell->title +
                          ": the same tokens gave other logits when they were fed again");
}

}  // namespace

int64_t tokens_of(const PlannedCell& planned) {
  const int64_t passes = (wants_noise_floor(planned) ? 2 : 1) + (planned.work->fidelity ? 1 : 0);
  return planned.work->count * tokens_of(planned.work->sample(0)) * passes;
}

std::optional<CellOutcome> run_cell(const PlannedCell& planned, const CellRun& run) {
  const Composition composition = compose(planned.method, run.model->shape(), *run.registry,
                                          access_of(*run.model).get(), run.model->dtype());
  const Subject subject{.model = run.model,
                        .composition = &composition,
                        .registry = run.registry,
                        .where = {.engine = run.engine, .run_dtype = run.model->dtype()},
                        .tokenizer = planned.work->tokenizer.get()};
  const bool is_reference = is_dense(composition);
  const Composition dense = compose(parse_methods(std::string(kReference), *run.registry),
                                    run.model->shape(), *run.registry, nullptr, run.model->dtype());
  Subject reference = subject;
  reference.composition = &dense;
  if (is_reference) reference.where.split = kOtherOrder;
  CellOutcome cell{.dtype = std::string(name_of(run.model->dtype())),
                   .weight_bytes = run.model->weight_bytes(),
                   .param_delta_bytes = param_delta(composition, *run.model)};
  for (int64_t i = 0; i < planned.work->count; ++i) {
    if (run.interrupted && run.interrupted()) return std::nullopt;
    const Sample sample = planned.work->sample(i);
    if (i == 0) check_causality(subject, planned.cell->title, sample, planned.feeding.read);
    MemoryWatch memory(planned.cell->title, subject.where.run_dtype);
    cell.samples.push_back(run_sample(
        subject, sample, planned.feeding,
        {.fed = run.fed, .kernels = i == 0 ? &cell.kernels : nullptr, .companion = &memory}));
    Outcome& outcome = cell.samples.back();
    if (planned.work->fidelity && !outcome.is_nan) {
      measure_fidelity(subject, reference, sample, planned, run, outcome);
    }
    if (!wants_noise_floor(planned) || outcome.is_nan) continue;
    const Feeding at_once{.prefill_chunk = 0, .read = planned.feeding.read};
    outcome.one_pass_nll = run_sample(subject, in_one_pass(sample), at_once, {.fed = run.fed}).nll;
  }
  if (!is_reference) warn_if_idle(planned, cell);
  warn_if_not_repeatable(planned, cell);
  return cell;
}

}  // namespace kvlab
