#pragma once
// The rows of a layer as a selector sees them, and what it writes about them.

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/cache/impl.h"

namespace kvlab::cache {

/// Where a row lies in one list of the layer.  In a pass a row may have two forms.
struct Place {
  int list = 0;  // of the layer
  Part part{};
  int64_t slot = 0;
  int64_t encoded = -1;   // past slot of the same row, formed in this pass
  bool is_given = false;  // the pass also holds it as given, at slot = position of `chunk`
};

class LiveView final : public LiveRows {
 public:
  /// Nothing is looked at until something is asked for.
  LiveView(Impl& cache, int layer, int selector, std::span<Sequence* const> of, Sight sight);

  // LiveRows
  int layer() const override { return layer_; }
  int lists_per_sequence() const override { return lists_; }
  std::span<const SeqId> sequences() const override { return ids_; }
  Ragged positions() const override;
  Ragged column(std::string_view name) override;
  Ragged mass(const Attend& queries) override;
  Ragged decoded(std::string_view stream) override;
  TensorView state(SeqId sequence, std::string_view name) override;

  /// What the engine wrote for `segments` of sequences `of`, row by row.
  Ragged gather_mass(std::span<Sequence* const> of, std::span<const Segment> segments,
                     std::span<const float> raw);
  /// Column values that differ from what was read wait for the end of the chunk.
  void keep_writes();
  /// The places of row `row` (counted over all lists).
  std::span<const Place> places(int64_t row) const;
  Sequence& sequence_of_list(int64_t list) const {
    return *of_[static_cast<size_t>(list / lists_)];
  }

 private:
  struct Values {
    int column = 0;
    Bytes_ now{}, before{};
  };
  struct Buffer {
    std::vector<float> values{};
  };
  void build() const;
  void build_list(Sequence& one, int list, std::vector<std::pair<int32_t, Place>>& rows) const;
  std::vector<ColumnWrites*> writes(const Sequence& one, int column) const;
  void read_column(int column, Bytes_& out) const;

  Impl& cache_;
  int layer_, selector_, group_, lists_;
  std::vector<Sequence*> of_;
  std::vector<SeqId> ids_;
  Sight sight_;
  mutable bool is_built_ = false;
  mutable std::vector<int64_t> indptr_{};
  mutable std::vector<int32_t> positions_{};
  mutable std::vector<Place> places_{};
  mutable std::vector<int64_t> first_place_{};  // [rows + 1]
  std::vector<std::unique_ptr<Values>> columns_{};
  std::vector<std::unique_ptr<Buffer>> buffers_{};  // of mass and decoded
};

}  // namespace kvlab::cache
