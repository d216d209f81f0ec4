#pragma once
// What was seen when a sample was run with one cache: plain numbers, before any metric.

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"
#include "eval/fidelity.h"

namespace kvlab {

/// Bytes of a cache at one moment, and what a dense cache would hold for the same tokens.
struct Footprint {
  int64_t tokens = 0;  // seen by the cache
  int64_t payload = 0, metadata = 0, residual = 0, state = 0;
  int64_t committed = 0, scratch = 0;
  int64_t dense = 0;      // in 16 bits: the yardstick of cr
  int64_t dense_run = 0;  // in the dtype of the run
  int64_t cache_bytes() const { return payload + metadata + state; }
  int64_t slack() const { return committed - cache_bytes(); }
  bool operator==(const Footprint&) const = default;
};

/// Read from the clock and the process: differs from run to run.
struct Timing {
  double prefill_s = 0;   // prompt passes, compression included
  double compress_s = 0;  // part of it: appending to the cache and ending the passes
  int64_t prefill_tokens = 0;
  double decode_s = 0;  // every pass after the prompt
  double attend_s = 0;  // part of it: attention
  int64_t decode_tokens = 0;
  double first_token_s = -1;  // from the start to the first generated token; -1: none
  /// Gaps between output tokens, in order: generated ones, or scored ones fed one at a time.
  std::vector<double> steps_s{};
  int64_t peak_rss_prefill = 0, peak_rss_decode = 0;  // bytes, of the whole process
  bool operator==(const Timing&) const = default;
};

struct Outcome {
  std::string id{};
  /// One entry per scored token, in the order fed: -ln p(label), the label, the arg max (ties: the
  /// lowest) and whether it is a recall token (Fed::recall).
  std::vector<double> nll{};
  std::vector<int32_t> labels{}, predicted{};
  std::vector<uint8_t> recall{};
  /// The same NLLs with everything fed in one dense pass, where the noise floor is wanted.
  std::vector<double> one_pass_nll{};
  std::vector<int64_t> turn_scored{};  // how many of them each turn scored; the context's precede
  std::vector<int32_t> since_event{};  // tokens fed since the last compression, 1 the first after
                                       // it; 0: there was none yet
  std::vector<std::vector<int32_t>> generated{}, answers{};  // of the turns that generate
  /// The same as text, where the task has a tokenizer: what was generated, up to a stop string, and
  /// what counts as right.
  std::vector<std::string> texts{};
  std::vector<std::vector<std::string>> references{};
  /// Against a dense run of the same tokens, where the task wants it: Fidelity, and per layer.
  Fidelity fidelity{};
  std::vector<LayerFidelity> layers{};
  bool repeats = true;  // the run for it gave the same NLLs, bit for bit, as the one for everything
                        // else
  /// Share of the needles' tokens that each kv head of each layer holds after the prefill.
  std::vector<std::vector<double>> retention{};
  Json meta = Json::object();  // Sample::meta
  bool is_nan = false;  // logits were not finite: nothing after that is here, no metric reads it
  std::string nan_where{};
  int64_t compress_events = 0;  // passes that did not just add their rows as they came
  bool first_scored_after_compress = false;
  Footprint after_prefill{}, end{}, peak{};
  int64_t decode_passes = 0;     // after the prompt
  int64_t decode_attends = 0;    // calls of attention in those, one per layer
  double mean_decode_bytes = 0;  // cache_bytes, mean over those
  double moved_bytes = 0;        // of those: what attention had to read and write at least
  Timing timing{};
};

/// Which kernels ran: one entry per distinct choice.
struct KernelUse {
  std::string phase{};  // prefill, decode
  std::vector<int> layers{};
  std::string level{}, kernel{}, reason{};
  bool operator==(const KernelUse&) const = default;
};

/// All samples of one cell.
struct CellOutcome {
  std::vector<Outcome> samples{};
  std::vector<KernelUse> kernels{};
  std::string dtype{};            // of activations and rows as they come
  int64_t weight_bytes = 0;       // of the model
  int64_t param_delta_bytes = 0;  // weights the method added, less those it frees
  std::vector<std::string> warnings{};
  double read_gb_s = 0;  // read bandwidth of memory, 1e9 bytes/s, measured where and when it ran
  int64_t nan_samples() const;
};

/// Without and with what varies: {"samples", "kernels", ...} and {"samples", "read_gb_s"}.
Json to_json(const CellOutcome& outcome);
Json timing_json(const CellOutcome& outcome);
/// E_FORMAT when it is not what they wrote.
CellOutcome outcome_from(const Json& observed, const Json& timing);

}  // namespace kvlab
