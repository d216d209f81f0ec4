#pragma once
// Is this build sound?  The recall model, whose answers are known, through every method, end to
// end.

#include <string>
#include <vector>

#include "eval/catalogue.h"
#include "eval/experiment/run.h"

namespace kvlab {

struct Check {
  std::string name{};  // "quant, mqar"
  bool passed = false;
  std::string detail{};  // what was seen, or what went wrong
};

/// Dense must recall everything with the known loss; every other method of the registry must run
/// without NaN, account for its bytes, and equal dense bit for bit where it promises to be exact.
/// Methods that need an artifact are left to their own tests, and say so.
std::vector<Check> selftest(const Registry& registry, const Catalogue& catalogue, int threads,
                            const RunObserver& observer = {});

}  // namespace kvlab
