// How fast it ran, with its own memory traffic and threads: always printed beside accuracy, never
// comparable between machines.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "eval/catalogue.h"

namespace kvlab::metrics::speed {
namespace {

using Ratio = Share (*)(const Timing&);

void add(Catalogue& catalogue, std::string name, std::string unit, Better better, std::string doc,
         Ratio ratio) {
  catalogue.add(Metric{.name = std::move(name),
                       .unit = std::move(unit),
                       .doc = std::move(doc),
                       .better = better,
                       .always = true,
                       .timing = true,
                       .shares = [ratio](const Outcome& sample, const Outcome*) {
                         const Share share = ratio(sample.timing);
                         if (share.weight <= 0 || share.sum < 0) return std::vector<Share>{};
                         return std::vector<Share>{share};
                       }});
}

Share prefill_rate(const Timing& t) { return {static_cast<double>(t.prefill_tokens), t.prefill_s}; }
Share decode_rate(const Timing& t) { return {static_cast<double>(t.decode_tokens), t.decode_s}; }
/// The mean gap between output tokens; where several tokens were fed at a time, time per token.
Share time_per_token(const Timing& t) {
  if (t.steps_s.empty()) return {1e3 * t.decode_s, static_cast<double>(t.decode_tokens)};
  return {1e3 * std::accumulate(t.steps_s.begin(), t.steps_s.end(), 0.0),
          static_cast<double>(t.steps_s.size())};
}
Share compression(const Timing& t) { return {1e3 * t.compress_s, 1}; }
Share first_token(const Timing& t) { return {t.first_token_s < 0 ? -1 : 1e3 * t.first_token_s, 1}; }

// Attention in passes after the prompt.
std::vector<Share> attention_rate(const Outcome& sample, const Outcome*) {
  if (sample.timing.attend_s <= 0) return {};
  return {{1e-9 * sample.moved_bytes, sample.timing.attend_s}};
}
std::vector<Share> attention_call(const Outcome& sample, const Outcome*) {
  if (sample.decode_attends == 0) return {};
  return {{1e6 * sample.timing.attend_s, static_cast<double>(sample.decode_attends)}};
}
std::vector<Share> attention_speedup(const Outcome& sample, const Outcome* dense) {
  if (dense == nullptr || sample.timing.attend_s <= 0 || dense->timing.attend_s <= 0) return {};
  return {{dense->timing.attend_s, sample.timing.attend_s}};
}
/// Speed-up over the one that fewer bytes allow.
std::vector<Share> roofline_share(const Outcome& sample, const Outcome* dense) {
  if (attention_speedup(sample, dense).empty() || dense->moved_bytes <= 0) return {};
  return {
      {dense->timing.attend_s / dense->moved_bytes, sample.timing.attend_s / sample.moved_bytes}};
}

std::optional<double> bandwidth_share(const CellOutcome& cell) {
  double bytes = 0, seconds = 0;
  for (const Outcome& sample : cell.samples) {
    bytes += sample.moved_bytes;
    seconds += sample.timing.attend_s;
  }
  if (seconds <= 0 || cell.read_gb_s <= 0) return std::nullopt;
  return 1e-9 * bytes / seconds / cell.read_gb_s;
}

std::optional<double> memory_speed(const CellOutcome& cell) {
  if (cell.read_gb_s <= 0) return std::nullopt;
  return cell.read_gb_s;
}

/// A percentile of the gaps between single tokens, all samples together.
template <int percent>
std::optional<double> gap(const CellOutcome& cell) {
  std::vector<double> gaps;
  for (const Outcome& sample : cell.samples) {
    gaps.insert(gaps.end(), sample.timing.steps_s.begin(), sample.timing.steps_s.end());
  }
  if (gaps.empty()) return std::nullopt;
  const auto at =
      static_cast<size_t>(std::ceil(static_cast<double>(gaps.size()) * percent / 100.0)) - 1;
  std::nth_element(gaps.begin(), gaps.begin() + static_cast<std::ptrdiff_t>(at), gaps.end());
  return 1e3 * gaps[at];
}

template <int64_t Timing::* field>
std::optional<double> most(const CellOutcome& cell) {
  int64_t bytes = 0;
  for (const Outcome& sample : cell.samples) bytes = std::max(bytes, sample.timing.*field);
  if (bytes == 0) return std::nullopt;
  return static_cast<double>(bytes);
}

void add_value(Catalogue& catalogue, std::string name, std::string unit, std::string doc,
               std::optional<double> (*value)(const CellOutcome&)) {
  catalogue.add(Metric{.name = std::move(name),
                       .unit = std::move(unit),
                       .doc = std::move(doc),
                       .better = Better::lower,
                       .always = true,
                       .timing = true,
                       .value = value});
}

using Shares = std::vector<Share> (*)(const Outcome&, const Outcome*);

void add_attention(Catalogue& catalogue) {
  const auto metric = [&](const char* name, const char* unit, Better better, const char* doc,
                          bool timing, Shares shares) {
    catalogue.add(Metric{.name = name,
                         .unit = unit,
                         .doc = doc,
                         .better = better,
                         .always = true,
                         .timing = timing,
                         .shares = shares});
  };
  metric("attn_us", "us", Better::lower, "attention of one layer in a pass after the prompt", true,
         attention_call);
  metric("bytes_moved", "byte", Better::lower,
         "what all layers of such a pass read and write at least: cache, queries, outputs", false,
         [](const Outcome& sample, const Outcome*) -> std::vector<Share> {
           if (sample.decode_passes == 0) return {};
           return {{sample.moved_bytes, static_cast<double>(sample.decode_passes)}};
         });
  metric("attn_gb_s", "GB/s", Better::higher, "those bytes over that time", true, attention_rate);
  metric("attn_speedup", "ratio", Better::higher,
         "attention of the dense run over this one's, time", true, attention_speedup);
  metric("speedup_roofline", "ratio", Better::higher, "the same in bytes: what bandwidth allows",
         false, [](const Outcome& sample, const Outcome* dense) -> std::vector<Share> {
           if (dense == nullptr || sample.moved_bytes == 0) return {};
           return {{dense->moved_bytes, sample.moved_bytes}};
         });
  metric("roofline_frac", "fraction", Better::higher, "attn_speedup over speedup_roofline", true,
         roofline_share);
  const auto value = [&](const char* name, const char* unit, const char* doc,
                         std::optional<double> (*read)(const CellOutcome&)) {
    catalogue.add(Metric{.name = name,
                         .unit = unit,
                         .doc = doc,
                         .better = Better::higher,
                         .always = true,
                         .timing = true,
                         .value = read});
  };
  value("read_gb_s", "GB/s", "read bandwidth of memory, same threads, same process", memory_speed);
  value("bw_frac", "fraction",
        "attn_gb_s over read_gb_s; above 1 where the cache fits the processor's own",
        bandwidth_share);
}

}  // namespace

void register_metric(Catalogue& catalogue) {
  add(catalogue, "prefill_tok_s", "token/s", Better::higher,
      "context tokens per second of prefill and compression", prefill_rate);
  add(catalogue, "compress_ms", "ms", Better::lower,
      "part of the prefill spent storing and compressing, per sample", compression);
  add(catalogue, "ttft_ms", "ms", Better::lower,
      "from the first context token to the first generated token", first_token);
  add(catalogue, "tpot_ms", "ms", Better::lower, "time per token after the prompt", time_per_token);
  add(catalogue, "decode_tok_s", "token/s", Better::higher, "tokens per second after the prompt",
      decode_rate);
  add_attention(catalogue);
  add_value(catalogue, "itl_p50", "ms", "median gap between single tokens", gap<50>);
  add_value(catalogue, "itl_p95", "ms", "95th percentile of the gaps", gap<95>);
  add_value(catalogue, "itl_p99", "ms", "99th percentile of the gaps", gap<99>);
  add_value(catalogue, "peak_rss_prefill_bytes", "byte",
            "most memory the process held during a prefill", most<&Timing::peak_rss_prefill>);
  add_value(catalogue, "peak_rss_decode_bytes", "byte",
            "most memory the process held after the prompt", most<&Timing::peak_rss_decode>);
}

}  // namespace kvlab::metrics::speed
