#include "eval/train/batch.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"
#include "eval/random.h"

namespace kvlab {
namespace {

uint64_t mixed(uint64_t a, uint64_t b) { return SplitMix64(SplitMix64(a).next() ^ b).next(); }

/// Sequences before `step`.
int64_t sequences_before(const TrainConfig& config, int64_t step) {
  int64_t sequences = 0, first = 0;
  for (const TrainStage& stage : config.stages) {
    const int64_t steps = std::clamp<int64_t>(step - first, 0, stage.until_step - first);
    sequences += steps * stage.batch_sequences;
    first = stage.until_step;
  }
  return sequences;
}

const std::string& source_of(const TrainStage& stage, double place) {
  double edge = 0;
  const std::string* last = nullptr;
  for (const auto& [name, share] : stage.shares) {
    if (share == 0) continue;
    last = &name;
    edge += share;
    if (place < edge) return name;
  }
  return *last;
}

/// One row of a batch.
struct Row {
  std::span<int64_t> ids{};
  std::span<float> weights{};
};

/// The `slot`-th window of the run.
void fill_with_text(const TokenSource& text, uint64_t seed, uint64_t slot, const Row& row) {
  const uint64_t length = row.weights.size(), tokens = text.tokens().size();
  KVLAB_REQUIRE(tokens > 2 * length, "E_CONFIG", "train: text-train.bin holds ", tokens,
                " tokens, too few for sequences of ", length);
  const uint64_t windows = (tokens - 1) / length - 1;  // one is lost to the first's place
  const uint64_t round = mixed(seed, slot / windows);
  const uint64_t first = round % length + shuffled(slot % windows, windows, round) * length;
  for (size_t i = 0; i < row.ids.size(); ++i) row.ids[i] = text.tokens()[first + i];
  std::ranges::fill(row.weights, 1.0f);
}

void fill_with_recall(const TokenSource& recall, const TrainStage& stage, int64_t held_out,
                      SplitMix64 random, const Row& row) {
  const int64_t documents = static_cast<int64_t>(recall.documents().size()) - held_out;
  KVLAB_REQUIRE(documents > 0, "E_CONFIG", "train: a recall file holds ", recall.documents().size(),
                " documents, of which ", held_out, " are held out; make more, or hold out fewer");
  for (size_t filled = 0; filled < row.ids.size();) {
    const Range document = recall.documents()[random.below(static_cast<uint64_t>(documents))];
    for (int64_t i = document.first; i < document.last && filled < row.ids.size(); ++i, ++filled) {
      const size_t at = static_cast<size_t>(i);
      row.ids[filled] = recall.tokens()[at];
      if (filled > 0)
        row.weights[filled - 1] =
            static_cast<float>(recall.marks()[at] != 0 ? stage.answer_weight : stage.other_weight);
    }
  }
}

}  // namespace

uint64_t shuffled(uint64_t index, uint64_t n, uint64_t seed) {
  // A Feistel network of four rounds over the next even power of two, walked until it lands inside.
  const int half = std::max(1, (static_cast<int>(std::bit_width(n - 1)) + 1) / 2);
  const uint64_t mask = (uint64_t{1} << half) - 1;
  do {
    uint64_t left = index >> half, right = index & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      const uint64_t next = left ^ (mixed(seed + round, right) & mask);
      left = right;
      right = next;
    }
    index = left << half | right;
  } while (index >= n);
  return index;
}

Batch make_batch(const TrainConfig& config, TokenSources& sources, int64_t step) {
  const TrainStage& stage = config.stage_of(step);
  const size_t length = static_cast<size_t>(stage.sequence_length);
  const size_t rows = static_cast<size_t>(stage.batch_sequences);
  Batch batch{.sequences = stage.batch_sequences, .length = stage.sequence_length};
  batch.ids.resize(rows * (length + 1));
  batch.weights.resize(rows * length);
  const uint64_t first_slot = static_cast<uint64_t>(sequences_before(config, step));
  const double u = random_stream(config.seed, "train.batch", static_cast<uint64_t>(step)).u01();
  for (size_t b = 0; b < rows; ++b) {
    const Row row{std::span(batch.ids).subspan(b * (length + 1), length + 1),
                  std::span(batch.weights).subspan(b * length, length)};
    const double place = (static_cast<double>(b) + u) / static_cast<double>(rows);
    const std::string& name = source_of(stage, place);
    const TokenSource& source = sources.at(name);
    if (is_recall(name)) {
      fill_with_recall(source, stage, config.held_out_documents,
                       random_stream(config.seed, "train.recall", first_slot + b), row);
    } else {
      fill_with_text(source, mixed(config.seed, fnv1a64("train.text")), first_slot + b, row);
    }
  }
  return batch;
}

}  // namespace kvlab
