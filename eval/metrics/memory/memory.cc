// What the cache held, as its allocator counts it, and ratios to a dense cache of 16 bits for the
// tokens seen.  Weights and scratch are printed beside, never inside.

#include <algorithm>

#include "eval/catalogue.h"

namespace kvlab::metrics::memory {
namespace {

using Reading = int64_t (*)(const Outcome&);

double number(int64_t bytes) { return static_cast<double>(bytes); }

void add_bytes(Catalogue& catalogue, std::string name, std::string doc, Reading read,
               bool of_process = false) {
  catalogue.add(Metric{.name = std::move(name),
                       .unit = "byte",
                       .doc = std::move(doc) + ", mean over samples",
                       .better = Better::lower,
                       .always = true,
                       .timing = of_process,
                       .shares = [read](const Outcome& sample, const Outcome*) {
                         return std::vector<Share>{{number(read(sample)), 1}};
                       }});
}

/// of / to, pooled over samples: sum over sum, never a mean of ratios.
void add_ratio(Catalogue& catalogue, std::string name, std::string unit, Better better,
               std::string doc, Reading of, Reading to, Finish finish = nullptr) {
  catalogue.add(Metric{.name = std::move(name),
                       .unit = std::move(unit),
                       .doc = std::move(doc),
                       .better = better,
                       .always = true,
                       .shares =
                           [of, to](const Outcome& sample, const Outcome*) {
                             if (of(sample) == 0 || to(sample) == 0) return std::vector<Share>{};
                             return std::vector<Share>{{number(of(sample)), number(to(sample))}};
                           },
                       .finish = finish});
}

int64_t cache(const Outcome& sample) { return sample.end.cache_bytes(); }
int64_t dense(const Outcome& sample) { return sample.end.dense; }
int64_t dense_run(const Outcome& sample) { return sample.end.dense_run; }

std::optional<double> peak(const CellOutcome& cell) {
  int64_t most = 0;
  for (const Outcome& sample : cell.samples) {
    if (!sample.is_nan) most = std::max(most, sample.peak.cache_bytes());
  }
  return number(most);
}

std::optional<double> param_delta(const CellOutcome& cell) {
  return number(cell.param_delta_bytes);
}

std::vector<Share> mean_in_decode(const Outcome& sample, const Outcome*) {
  if (sample.mean_decode_bytes == 0) return {};
  return {{sample.mean_decode_bytes, 1}};
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  add_bytes(catalogue, "cache_bytes", "payload, metadata and state at the end", cache);
  add_bytes(catalogue, "cache_bytes_prefill", "the same after the prefill",
            [](const Outcome& s) { return s.after_prefill.cache_bytes(); });
  add_bytes(catalogue, "dense_bytes", "a dense 16-bit cache of the tokens seen", dense);
  add_bytes(catalogue, "payload_bytes", "stored keys and values",
            [](const Outcome& s) { return s.end.payload; });
  add_bytes(catalogue, "meta_bytes", "scales, positions, page tables",
            [](const Outcome& s) { return s.end.metadata; });
  add_bytes(catalogue, "residual_bytes", "part of the payload not yet compressed",
            [](const Outcome& s) { return s.end.residual; });
  add_bytes(catalogue, "state_bytes", "recurrent state",
            [](const Outcome& s) { return s.end.state; });
  add_bytes(catalogue, "slack_bytes", "allocated and unused",
            [](const Outcome& s) { return s.end.slack(); });
  add_bytes(catalogue, "cache_alloc_bytes", "allocated in all",
            [](const Outcome& s) { return s.end.committed; });
  // Kernels keep their work space from cell to cell: a resumed run starts with less.
  add_bytes(
      catalogue, "scratch_bytes", "work space of the kernels",
      [](const Outcome& s) { return s.end.scratch; }, true);
  catalogue.add(Metric{.name = "cache_bytes_peak",
                       .unit = "byte",
                       .doc = "the most between two passes, of any sample",
                       .better = Better::lower,
                       .always = true,
                       .value = peak});
  catalogue.add(Metric{.name = "cache_bytes_mean",
                       .unit = "byte",
                       .doc = "mean over the passes after the prompt",
                       .better = Better::lower,
                       .always = true,
                       .shares = mean_in_decode});
  catalogue.add(Metric{.name = "param_delta_bytes",
                       .unit = "byte",
                       .doc = "weights the method adds, less those it frees",
                       .better = Better::lower,
                       .always = true,
                       .value = param_delta});
  add_ratio(catalogue, "cr", "ratio", Better::higher, "dense_bytes / cache_bytes", dense, cache);
  add_ratio(catalogue, "cr_run_dtype", "ratio", Better::higher,
            "the same against a dense cache in the dtype of the run", dense_run, cache);
  add_ratio(catalogue, "saving", "fraction", Better::higher, "1 - 1 / cr", cache, dense,
            [](double share) { return 1 - share; });
  add_ratio(catalogue, "bits_per_element", "bit", Better::lower,
            "stored bits per key or value number", cache, dense,
            [](double share) { return 16 * share; });
}

}  // namespace kvlab::metrics::memory
