#pragma once
// The online half: rows of every layer from its hidden rows, and how attention reads them.

#include <memory>
#include <vector>

#include "core/stage.h"
#include "methods/slim/factors.h"
#include "methods/slim/row_maker.h"
#include "methods/slim/site.h"

namespace kvlab::slim {

class SlimRows final : public Project {
 public:
  /// The artifact outlives it.  E_FORMAT: a header that slim did not write for this shape.
  SlimRows(const ModelShape& shape, const Artifact& artifact);

  Layout layout(int layer) const override;
  Needs needs(int layer, int64_t rows) const override;
  void rows(const Append& append, NewRows& out) const override;

  Dtype stored() const { return stored_; }
  /// Whether no layer keeps its own keys and values.
  bool replaces_all() const;

 private:
  struct Stored {
    Site site{};
    Factors factors{};
    bool takes_keys = false;
    bool reads_other = false;  // a cross layer that reads the rows of the first
  };
  const Stored& at(int layer) const { return layers_[static_cast<size_t>(layer)]; }

  Dtype stored_ = Dtype::bf16;
  std::vector<Stored> layers_{};
};

}  // namespace kvlab::slim
