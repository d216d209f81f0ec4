#pragma once
// A slow, obvious engine: it walks views slot by slot, computes in double, and checks every
// address, interval and placement it is given.  What is wrong throws std::logic_error.

#include <memory>
#include <vector>

#include "core/engine.h"
#include "core/registry.h"

namespace kvlab::test {

/// Codecs of the tests, by name.  All are written out here, where the oracle of reference_cache.cc
/// has them a second time.
///   float32  plane 0: width floats a row.  Exact for float32.
///   coarse   plane 0: width codes u8 a row; plane 1 (metadata): min, step float32 a row.
///            step = (max - min) / 15, code = round((x - min) / step), x = min + step * code.
///   column4  tiles of 4 rows.  plane 0: 4 x width codes a tile; plane 1 (metadata): min, step of
///            each feature over the tile; step = (max - min) / 7.
///   mixed8   tiles of 8 rows.  plane 0: width codes a row; plane 1 (metadata): min, step of each
///            feature a tile; step = (max - min) / 15.
///   exact4   tiles of 4 rows.  plane 0: width x 4 floats a tile, feature-major.  Exact.
void register_test_codecs(Registry& registry);

class ReferenceEngine final : public Engine {
 public:
  Device device() const override { return {}; }
  void encode(const EncodeCall& call) override;
  void decode(const DecodeCall& call) override;
  void move(const MoveCall& call) override;
  std::shared_ptr<const Plan> plan(const Layer& shape, const RowMap& rows,
                                   std::span<const Segment> segments,
                                   const SplitPolicy& split) override;
  void attend(const AttendCall& call, Ran* later) override;
  void sync() override {}
  int64_t scratch_bytes() const override { return 0; }

  // What was asked, for tests that count.
  int64_t plans_made = 0, rows_moved = 0;
};

}  // namespace kvlab::test
