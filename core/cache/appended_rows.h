#pragma once
// The rows of one append while stages fill them, and their way to where they lie.

#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "core/cache/impl.h"

namespace kvlab::cache {

/// One lives as long as its cache, so that a decode step allocates nothing.
class AppendedRows final : public NewRows {
 public:
  explicit AppendedRows(Impl& cache) : cache_(cache) {}

  /// The lists of the layer have their slots already (Impl::extend); in a replacing pass the rows
  /// are looked up: E_POSITION when one is gone, E_ALIGN when it cannot be rewritten alone.
  void start(const Append& append);
  /// The stage that speaks from now on: kLayout or a selector's number.
  void speaks(int owner) { owner_ = owner; }
  /// The layout's stream is this tensor, as it is.
  void take(std::string_view name, const TensorView& rows);
  /// Refuses flags that cannot be given here, and tells the sequences of those that were.
  void check_flags();
  /// Positions, untils and the stages' columns go to every part that has them.
  void place_columns();
  /// Every stream is encoded to where its rows lie.
  void place_streams();
  /// A stream's rows [R, units, width]; E_INTERNAL when its stage did not write them.
  TensorView written(int stream) const;
  int64_t held() const;  // bytes of buffers

  /// Where the rows of this append lie, of lists of the chunk's sequences.
  const std::vector<Placement>& placements(int group, Part part);

  // NewRows
  TensorView stream(std::string_view name) override;
  TensorView as_stored(std::string_view name) override;
  TensorView column(std::string_view name) override;
  TensorView keep() override;
  TensorView state(SeqId sequence, std::string_view name) override;
  TensorView past(SeqId sequence, std::string_view stream) override;

 private:
  struct Buffer {
    std::vector<u8> bytes{};
    TensorView view{};  // absent: not asked for in this append
  };
  /// The flags of one selector, as lists see them.
  struct Flags {
    const u8* flags = nullptr;  // [R, columns]
    int columns = 1, heads_per_list = 1;
    int64_t sinks = 0, recent = 1;
  };

  int find_stream(std::string_view name) const;
  TensorView make(Buffer& buffer, Dtype dtype, std::initializer_list<int64_t> sizes, u8 fill);
  void encode(int stream, TensorView as_stored);
  void encode_into(int stream, Part part, TensorView as_stored);
  void locate_new(int group);
  void locate_old(int group);
  int32_t until(int64_t row, int list) const;
  int32_t position(int64_t row) const { return positions_[static_cast<size_t>(row)]; }
  void place_own(int group, Part part);
  void place_column(int group, Part part, int column, const TensorView& values);

  Impl& cache_;
  const Append* append_ = nullptr;
  const LayerPlan* plan_ = nullptr;
  std::span<const int32_t> positions_{};
  int owner_ = kLayout;
  std::vector<Buffer> streams_{}, stored_{}, columns_{}, keeps_{};
  std::vector<Buffer> decoded_{};  // of past(): one per call, valid during the append
  size_t decoded_in_use_ = 0;
  std::vector<bool> encoded_{};
  std::vector<Flags> flags_{};  // of selectors that gave some
  std::array<std::array<std::vector<Placement>, kParts>, 2> placements_{};  // main, all
};

}  // namespace kvlab::cache
