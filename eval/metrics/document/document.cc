// Perplexity per byte and per word of the text, which does not depend on how it was cut into
// tokens.  The sample's meta says how many of them its scored tokens stand for: {"bytes", "words"}.

#include <cmath>
#include <numbers>
#include <numeric>

#include "eval/catalogue.h"

namespace kvlab::metrics::document {
namespace {

template <const char* unit>
std::vector<Share> nats_per(const Outcome& sample, const Outcome*) {
  const auto found = sample.meta.find(unit);
  if (found == sample.meta.end()) return {};
  return {{std::accumulate(sample.nll.begin(), sample.nll.end(), 0.0), found->get<double>()}};
}

constexpr char kBytes[] = "bytes", kWords[] = "words";

double in_bits(double nats) { return nats / std::numbers::ln2; }
double exponential(double nats) { return std::exp(nats); }

}  // namespace

void register_metric(Catalogue& catalogue) {
  const auto add = [&](std::string name, std::string unit, std::string doc, auto shares,
                       Finish finish) {
    catalogue.add(Metric{.name = std::move(name),
                         .unit = std::move(unit),
                         .doc = std::move(doc),
                         .better = Better::lower,
                         .shares = shares,
                         .finish = finish});
  };
  add("bits_per_byte", "bit/byte", "sum of NLL / (bytes ln 2)", nats_per<kBytes>, in_bits);
  add("byte_ppl", "", "exp(sum of NLL / bytes)", nats_per<kBytes>, exponential);
  add("word_ppl", "", "exp(sum of NLL / words)", nats_per<kWords>, exponential);
}

}  // namespace kvlab::metrics::document
