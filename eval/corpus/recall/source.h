#pragma once
// What recall documents are made of beside their facts: filler, in pieces worth so many tokens.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/random.h"

namespace kvlab::corpus {

/// noise and prose: the harness' own (eval/synthetic).  text: consecutive words of the training
/// text, in pieces of 4 to 18; prose where there is none yet.
enum class Filler : unsigned char { noise, prose, text };

class Source {
 public:
  Source() = default;
  explicit Source(std::vector<std::string> words) : words_(std::move(words)) {}

  Filler draw_filler(SplitMix64& random) const;
  /// Pieces of roughly `tokens` tokens together; none where that is less than a piece.
  std::vector<std::string> filler(SplitMix64& random, Filler kind, int64_t tokens) const;

 private:
  std::vector<std::string> text(SplitMix64& random, int64_t tokens) const;
  std::vector<std::string> words_{};
};

/// Needles at random places between the pieces, all joined by spaces; needles keep their order.
std::string scattered(SplitMix64& random, std::span<const std::string> pieces,
                      std::span<const std::string> needles);

/// One of several, by weight.
size_t weighted(SplitMix64& random, std::span<const int64_t> weights);
/// An integer in [first, last].
int64_t between(SplitMix64& random, int64_t first, int64_t last);

}  // namespace kvlab::corpus
