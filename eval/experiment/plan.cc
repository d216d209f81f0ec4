#include "eval/experiment/plan.h"

#include <algorithm>

#include "core/error.h"
#include "eval/model.h"
#include "eval/model_files.h"
#include "eval/rules.h"

namespace kvlab {

namespace {

/// Of the samples themselves, whatever they were made of; each fits the model.
std::string data_sha(const Work& work, const ModelOutline& model, std::string_view task) {
  Sha256 digest;
  for (int64_t i = 0; i < work.count; ++i) {
    const Sample sample = work.sample(i);
    check_source(model, task, sample);
    const std::string line = canonical(describe(sample)) + "\n";
    digest.update({reinterpret_cast<const u8*>(line.data()), line.size()});
  }
  return digest.hex();
}

/// {"path": DIR} relative to the config's folder.
Json located(Json spec, const std::filesystem::path& folder) {
  if (spec.is_object() && spec.contains("path") && spec["path"].is_string()) {
    spec["path"] = from_folder(folder, spec["path"].get<std::string>()).string();
  }
  return spec;
}

/// Artifacts relative to the config's folder.
std::vector<MethodSpec> located(std::vector<MethodSpec> specs,
                                const std::filesystem::path& folder) {
  for (MethodSpec& spec : specs) {
    if (!spec.artifact.empty()) spec.artifact = from_folder(folder, spec.artifact).string();
  }
  return specs;
}

/// Weights are not read yet, so artifacts made for them cannot be told from others yet.
ModelOutline without_fingerprint(ModelOutline model) {
  model.shape.fingerprint.clear();
  return model;
}

Feeding feeding_of(const Cell& cell, const Work& work) {
  KVLAB_REQUIRE(!cell.matrix.query_aware || work.query_aware, "E_CONFIG", cell.task.name,
                ": query_aware: its scored tokens are part of the query, so the query cannot be ",
                "moved into the prefill; leave query_aware out");
  KVLAB_REQUIRE(!work.needs_raw_chunk || cell.matrix.read_policy == ReadPolicy::raw_chunk,
                "E_READ_POLICY", cell.task.name, ": ", work.protocol,
                " reads what follows the prefix as it came: it needs read_policy raw_chunk");
  return {.prefill_chunk = cell.matrix.prefill_chunk.value_or(work.prefill_chunk),
          .query_chunk = work.query_chunk,
          .read = cell.matrix.read_policy,
          .query_aware = cell.matrix.query_aware};
}

}  // namespace

struct Planner::State {
  struct Prepared {
    std::shared_ptr<const Work> work;
    std::string data_sha{};  // once it is wanted
  };
  const Registry& registry;
  const Catalogue& catalogue;
  PlanOptions options;
  std::map<std::string, Prepared> works;    // by model, task and seed
  std::map<std::string, Json> model_files;  // by model
  std::map<std::string, ModelOutline> outlines;
  std::map<std::string, std::shared_ptr<Tokenizer>> tokenizers;  // by model

  const std::shared_ptr<Tokenizer>& tokenizer(const Json& model, const std::string& why) {
    std::shared_ptr<Tokenizer>& one = tokenizers[canonical(model)];
    if (!one) one = tokenizer_of(model, why);
    return one;
  }

  const ModelOutline& outline(const Json& model) {
    const std::string key = canonical(model);
    const auto found = outlines.find(key);
    return found != outlines.end()
               ? found->second
               : outlines.emplace(key, without_fingerprint(outline_of(model))).first->second;
  }

  Prepared& prepared(const Cell& cell, const Json& model, const std::filesystem::path& folder) {
    const std::string key =
        canonical({model, cell.task.name, cell.task.params, cell.seed, folder.string()});
    if (const auto found = works.find(key); found != works.end()) return found->second;
    const ModelOutline& here = outline(model);
    const TaskSetup setup{.params = &cell.task.params,
                          .seed = cell.seed,
                          .shape = &here.shape,
                          .begin_token = here.begin_token,
                          .read_text =
                              [&](const auto& path) {
                                return read_text_tokens(*tokenizer(model, "read " + path.string()),
                                                        from_folder(folder, path));
                              },
                          .read_tokens =
                              [&](const auto& path) {
                                return read_token_text(from_folder(folder, path),
                                                       here.shape.vocab_size);
                              },
                          .tokenizer = [&] { return tokenizer(model, "read and write text"); },
                          .locate = [&](const auto& path) { return from_folder(folder, path); }};
    auto work = std::make_shared<Work>(catalogue.task(cell.task.name).prepare(setup));
    return works.emplace(key, Prepared{std::move(work)}).first->second;
  }
};

Planner::Planner(const Registry& registry, const Catalogue& catalogue, const PlanOptions& options)
    : state_(new State{registry, catalogue, options, {}, {}, {}, {}}) {}
Planner::~Planner() = default;

const Json& Planner::model_files(const Json& model, const std::filesystem::path& folder) {
  const std::string key = canonical(located(model, folder));
  const auto found = state_->model_files.find(key);
  return found != state_->model_files.end()
             ? found->second
             : state_->model_files.emplace(key, digest_model(located(model, folder))).first->second;
}

std::shared_ptr<const Work> Planner::work(const Cell& cell, const std::filesystem::path& folder) {
  return state_->prepared(cell, located(cell.model, folder), folder).work;
}

PlannedCell Planner::plan(const Cell& cell, const std::filesystem::path& folder) {
  const Json model = located(cell.model, folder);
  const ModelOutline& outline = state_->outline(model);
  const std::string& who = cell.title;
  std::vector<MethodSpec> method = located(cell.method, folder);
  const Composition composition = check_composition(method, outline.shape, state_->registry);
  check_reading(composition, who, cell.matrix.read_policy);

  State::Prepared& prepared = state_->prepared(cell, model, folder);
  const Work& work = *prepared.work;
  if (prepared.data_sha.empty()) prepared.data_sha = data_sha(work, outline, cell.task.name);
  PlannedCell planned{.cell = &cell,
                      .model = model,
                      .method = std::move(method),
                      .work = prepared.work,
                      .feeding = feeding_of(cell, work)};
  planned.says_exact = composition.capabilities.exact;
  if (!state_->options.allow_vacuous) {
    check_matters(composition, who, work.sample(0), planned.feeding);
  }
  planned.facts = {.protocol = work.protocol,
                   .read_policy = std::string(name_of(cell.matrix.read_policy)),
                   .tokenizer_sha = work.tokenizer_sha,
                   .data_sha = prepared.data_sha,
                   .dtype = cell.model.value("dtype", "auto"),
                   .prefill_chunk = planned.feeding.prefill_chunk,
                   .score_chunk = planned.feeding.query_chunk};
  if (state_->options.digest_models) {
    planned.facts.model_sha = model_sha(cell.model, model_files(cell.model, folder));
  }
  return planned;
}

}  // namespace kvlab
