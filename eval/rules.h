#pragma once
// Which runs may be called a measurement.  A score counts only if the compressed cache was read to
// get it, and only if nothing read the future.

#include "core/compose.h"
#include "eval/run_sample.h"

namespace kvlab {

/// No stage at all: the dense cache itself.
bool is_dense(const Composition& composition);

/// E_READ_POLICY, E_NONCAUSAL_STORED_READ: whether a composition may be read this way in a scored
/// pass; `who` is its label.
void check_reading(const Composition& composition, std::string_view who, ReadPolicy read);

/// E_CONFIG unless a sample has encoder tokens exactly where the model's encoder reads some; `who`
/// is the task.
void check_source(const ModelOutline& model, std::string_view who, const Sample& sample);

/// E_CONFIG where `who`, which feeds a decoder alone, is given a model with an encoder.
void refuse_encoder(const ModelShape& model, std::string_view who);

/// E_METHOD_CANNOT_MATTER unless a scored token of the sample reads what was stored, or the method
/// changes the forward pass itself.  The dense cache is what others are compared with: never
/// refused.
void check_matters(const Composition& composition, std::string_view who, const Sample& sample,
                   const Feeding& feeding);

}  // namespace kvlab
