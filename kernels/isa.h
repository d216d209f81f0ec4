#pragma once
// CPU instruction sets: which exist in this build, which this CPU has, how they are called.

#include <string_view>
#include <vector>

#include "kernels/attention_steps.h"
#include "kernels/codec_kernels.h"

namespace kvlab {

std::string_view name_of(Isa isa);

/// Whether this CPU (and its operating system) runs it.
bool has_isa(Isa isa);

/// Weakest first; never empty.
std::vector<Isa> usable_isas();

/// E_UNKNOWN: no such name; E_UNSUPPORTED: this CPU does not have it.  "": the best.
Isa isa_named(std::string_view name);

}  // namespace kvlab
