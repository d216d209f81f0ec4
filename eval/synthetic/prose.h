#pragma once
// A small grammar, so that a varied text exists without any file.

#include <string>

#include "eval/random.h"

namespace kvlab {

/// "The baker carried the lantern.": one of 64 subjects, 32 verbs, 64 objects, drawn in this order.
std::string prose_sentence(SplitMix64& random);

}  // namespace kvlab
