#pragma once
// The tables of the paper (arXiv 2503.05840), computed from shapes.  All of them are arithmetic:
// the paper measured neither speed nor accuracy.

#include <cstdint>

#include "core/json.h"

namespace kvlab::slim {

/// How the paper evaluates attention of one new token over n cached ones (its table 2).
enum class Evaluation : uint8_t { vanilla, rebuild, absorb };  // its option 1, its option 2

/// Of one layer, in operations (a multiplication and an addition are two) and elements read.
struct Work {
  double projection_operations = 0, projection_reads = 0;
  double attention_operations = 0, attention_reads = 0;
};

/// Square projections of `width`, batch 1, `tokens` cached (n) with the new one among them.
Work work_of(Evaluation how, double width, double heads, double tokens);

/// An encoder-decoder of the paper's table 7.  Counts in elements and parameters, of one sequence.
struct Whisper {
  const char* name = "";
  double layers = 0, width = 0, feed_forward = 0;

  double encoder_output() const;
  double cross() const;  // keys and values of all cross layers, dense
  double self() const;   // of all self layers, dense
  /// option 0: dense, 1: one row per layer, 2: cross layers read the encoder's output, not counted.
  double cache(int option) const;
  double parameters(int option) const;
  double reads(int option, double batch) const;
  /// Option 2 with what the paper leaves out: the encoder's output is kept, and read.
  double saving_with_encoder_output() const;
  double speedup_with_encoder_output(double batch, double reads_per_step) const;
};

/// {"tables": [{"title", "columns", "rows"}]}, digits as printed.
Json paper_tables();

}  // namespace kvlab::slim
