#pragma once
// Which rows of a list are due to be encoded, and when: what a token-by-token run would do, worked
// out for a whole pass at once.

#include <cstdint>
#include <vector>

#include "core/cache/layers.h"
#include "core/rows_view.h"

namespace kvlab::cache {

/// Rows of one list that move, tile after tile.
struct DueRows {
  std::vector<int64_t> slots{};  // in `recent`; whole tiles
  int64_t pending = 0;           // slots below it are settled: in a tile, or dead before it was due
};

/// At each position q of the pass a token-by-token run drops rows with `until` below q; then, if
/// the first T rows left that are in no tile end at a position e with e + lag = q, they form one.
/// `recent` holds the rows up to position `newest`, of them those from `pending` on are in no tile.
DueRows due_rows(const Group& group, const PageLayout& page, const ListView& recent,
                 int64_t pending, int64_t newest);

}  // namespace kvlab::cache
