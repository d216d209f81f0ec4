#include "eval/generate.h"

#include <algorithm>

#include "core/error.h"
#include "eval/pass_rows.h"

namespace kvlab {
namespace {

/// One sequence of a batch.
struct Running {
  SeqId sequence{};
  std::span<const int32_t> prompt{};
  int64_t start = 0;  // its position before the prompt
  SplitMix64 random{0};
  Generated result{};
  bool is_done = false;
};

class Batch {
 public:
  Batch(Model& model, Cache& cache, std::span<const Prompt> prompts, const GenerateOptions& options)
      : model_(model), cache_(cache), options_(options) {
    for (const Prompt& prompt : prompts) {
      KVLAB_REQUIRE(!prompt.tokens.empty(), "E_SHAPE", "generate: prompt ", running_.size(),
                    " is empty; give at least one token");
      running_.push_back(
          {.sequence = prompt.sequence,
           .prompt = prompt.tokens,
           .start = cache.tokens_seen(prompt.sequence),
           .random = random_stream(options.sampling.seed, "generate", running_.size())});
    }
  }

  std::vector<Generated> run() {
    if (options_.max_new > 0 && !running_.empty()) {
      prefill();
      while (std::ranges::any_of(running_, [](const Running& r) { return !r.is_done; })) step();
    }
    std::vector<Generated> results;
    for (Running& r : running_) results.push_back(std::move(r.result));
    return results;
  }

 private:
  /// Tokens of the prompt that belong to the prefill.
  int64_t prefilled(const Running& r) const {
    const auto size = static_cast<int64_t>(r.prompt.size());
    return options_.first == GenerateOptions::First::of_cache ? size - 1 : size;
  }

  /// Chunks begin at multiples of the chunk's length, whatever else is in the batch; shorter
  /// prompts start later, so that all end together.
  void prefill() {
    const auto chunk_of = [&](const Running& r) {
      return options_.prefill_chunk > 0 ? options_.prefill_chunk
                                        : std::max<int64_t>(1, prefilled(r));
    };
    const auto passes_of = [&](const Running& r) {
      return (prefilled(r) + chunk_of(r) - 1) / chunk_of(r);
    };
    int64_t passes = 0;
    for (const Running& r : running_) passes = std::max(passes, passes_of(r));
    for (int64_t pass = 0; pass < passes; ++pass) {
      const bool is_last = pass + 1 == passes;
      const bool wants = is_last && options_.first == GenerateOptions::First::of_prompt;
      PassRows rows;
      std::vector<Running*> fed;
      for (Running& r : running_) {
        const int64_t chunk = pass - (passes - passes_of(r));
        if (chunk < 0) continue;
        const int64_t first = chunk * chunk_of(r);
        const int64_t size = std::min(chunk_of(r), prefilled(r) - first);
        rows.add(r.sequence, r.start + first,
                 r.prompt.subspan(static_cast<size_t>(first), static_cast<size_t>(size)),
                 wants ? PassRows::Want::last : PassRows::Want::nothing);
        fed.push_back(&r);
      }
      forward(rows, is_last ? ChunkEnd::prompt : ChunkEnd::chunk, fed);
    }
  }

  /// One token of every sequence that is not done: the one chosen last, or the one held back.
  void step() {
    PassRows rows;
    std::vector<Running*> fed;
    for (Running& r : running_) {
      if (r.is_done) continue;
      const std::vector<int32_t>& chosen = r.result.tokens;
      const std::span<const int32_t> token =
          chosen.empty() ? r.prompt.last(1) : std::span(chosen).last(1);
      const auto position = static_cast<int64_t>(r.prompt.size() + chosen.size()) - 1;
      rows.add(r.sequence, r.start + position, token, PassRows::Want::last);
      fed.push_back(&r);
    }
    forward(rows, ChunkEnd::step, fed);
  }

  /// The wanted row i belongs to fed[i].
  void forward(const PassRows& rows, ChunkEnd end, std::span<Running* const> fed) {
    model_.forward(cache_, rows.pass(options_.read, end), [&](int64_t first, TensorView block) {
      for (int64_t i = 0; i < block.size(0); ++i) {
        const std::span<const float> logits(reinterpret_cast<const float*>(block.at(i)),
                                            static_cast<size_t>(block.size(1)));
        take(*fed[static_cast<size_t>(first + i)], logits);
      }
    });
  }

  void take(Running& r, std::span<const float> logits) {
    const int32_t token = choose(logits, options_.sampling, r.random);
    if (std::ranges::find(options_.end_tokens, token) != options_.end_tokens.end()) {
      r.result.end_token = token;
      r.is_done = true;
      return;
    }
    r.result.tokens.push_back(token);
    r.is_done = static_cast<int64_t>(r.result.tokens.size()) >= options_.max_new;
  }

  Model& model_;
  Cache& cache_;
  const GenerateOptions& options_;
  std::vector<Running> running_{};
};

}  // namespace

std::vector<Generated> generate(Model& model, Cache& cache, std::span<const Prompt> prompts,
                                const GenerateOptions& options) {
  check(options.sampling, model.shape().vocab_size);
  KVLAB_REQUIRE(options.max_new >= 0, "E_CONFIG", "generate: max_new is ", options.max_new,
                ", must be 0 or above");
  KVLAB_REQUIRE(options.prefill_chunk >= 0, "E_CONFIG", "generate: prefill_chunk is ",
                options.prefill_chunk, ", must be 0 (all at once) or above");
  return Batch(model, cache, prompts, options).run();
}

}  // namespace kvlab
