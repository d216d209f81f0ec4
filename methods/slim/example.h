#pragma once
// Maps of the right shapes for a model nobody has weights of: bytes and speed do not depend on what
// stands in them.

#include "core/method.h"

namespace kvlab::slim {

/// What prepare would make for the shape and parameters, with arbitrary numbers in the maps.  Mode
/// `auto`: `input` where nothing turns, `keys` elsewhere.  Header "store": `store`, or run_dtype.
Artifact example(const Setup& setup);

}  // namespace kvlab::slim
