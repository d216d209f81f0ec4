#include "eval/outcome.h"

#include <algorithm>

#include "core/error.h"

namespace kvlab {

// How nlohmann/json reads and writes the plain ones (found by argument-dependent lookup).
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Footprint, tokens, payload, metadata, residual, state, committed,
                                   scratch, dense, dense_run)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Timing, prefill_s, compress_s, prefill_tokens, decode_s,
                                   attend_s, decode_tokens, first_token_s, steps_s,
                                   peak_rss_prefill, peak_rss_decode)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(KernelUse, phase, layers, level, kernel, reason)

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Fidelity, kl, kl_rev, js, tv, dp, margin, dense_nll, max_abs,
                                   mean_abs, agrees, overlap_5, overlap_10, overlap_50, error, norm)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LayerFidelity, nmse, cosine, head_nmse, key_error, key_norm,
                                   value_error, value_norm, key_max_abs, score_max_abs, mass_lost,
                                   retained)

// Outcome::timing is kept apart: the rest is equal from run to run.
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Outcome, id, nll, labels, predicted, recall, one_pass_nll,
                                   turn_scored, since_event, texts, references, retention, meta,
                                   generated, answers, is_nan, nan_where, compress_events,
                                   first_scored_after_compress, after_prefill, end, peak,
                                   decode_passes, decode_attends, mean_decode_bytes, moved_bytes,
                                   fidelity, layers, repeats)

int64_t CellOutcome::nan_samples() const {
  return std::count_if(samples.begin(), samples.end(), [](const Outcome& o) { return o.is_nan; });
}

Json to_json(const CellOutcome& outcome) {
  return {{"samples", outcome.samples},
          {"kernels", outcome.kernels},
          {"dtype", outcome.dtype},
          {"weight_bytes", outcome.weight_bytes},
          {"param_delta_bytes", outcome.param_delta_bytes},
          {"warnings", outcome.warnings}};
}

Json timing_json(const CellOutcome& outcome) {
  Json all = Json::array();
  for (const Outcome& sample : outcome.samples) all.push_back(sample.timing);
  return {{"samples", all}, {"read_gb_s", outcome.read_gb_s}};
}

CellOutcome outcome_from(const Json& observed, const Json& timing) try {
  CellOutcome outcome{.samples = observed.at("samples"),
                      .kernels = observed.at("kernels"),
                      .dtype = observed.at("dtype"),
                      .weight_bytes = observed.at("weight_bytes"),
                      .param_delta_bytes = observed.at("param_delta_bytes"),
                      .warnings = observed.at("warnings")};
  const Json& times = timing.at("samples");
  KVLAB_REQUIRE(times.size() == outcome.samples.size(), "E_FORMAT",
                "cell: ", outcome.samples.size(), " samples and ", times.size(), " timings");
  for (size_t i = 0; i < outcome.samples.size(); ++i) outcome.samples[i].timing = times.at(i);
  outcome.read_gb_s = timing.at("read_gb_s");
  return outcome;
} catch (const nlohmann::json::exception& error) {
  fail("E_FORMAT", "cell: not what kvlab writes: ", error.what());
}

}  // namespace kvlab
