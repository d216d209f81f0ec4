#pragma once
// Who computes what in a step: work items cut into pieces of equal cost, in closed form.
//
// An item is a set of query rows against a list of tiles of tokens.  Its weight is tiles +
// start_cost, the cost of starting a piece in units of tiles.  Weights of all items in a row are
// cut into equal intervals, one per worker:
//
//   flat   every tile of every item is in exactly one piece; the pieces of an item lie on
//          consecutive workers in ascending order; no worker has more than ceil(W / workers) +
//          start_cost, where any schedule needs W / workers; at most items + workers - 1 pieces and
//          2 (workers - 1) partial ones, whose results go to slots 2j and 2j + 1 of worker j.
//   fixed  every tile is a piece of its own, so that what an item is reduced from does not depend
//   on
//          other items or on the number of workers; whole pieces are dealt out by the flat cut.
//
// Items without tiles are in a piece too, so that somebody writes their empty result.

#include <cstdint>
#include <span>
#include <vector>

namespace kvlab {

struct Piece {
  int32_t item = 0;
  int32_t first_tile = 0, last_tile = 0;  // [first_tile, last_tile)
  int32_t slot = -1;                      // of its partial result; -1: it is the whole item
  bool operator==(const Piece&) const = default;
};

struct WorkPlan {
  std::vector<Piece> pieces{};         // by worker, then item
  std::vector<int32_t> first_piece{};  // [workers + 1]
  int32_t slots = 0;                   // partial results there is room for
  std::span<const Piece> of(int worker) const {
    return std::span(pieces).subspan(
        static_cast<size_t>(first_piece[static_cast<size_t>(worker)]),
        static_cast<size_t>(first_piece[static_cast<size_t>(worker) + 1] -
                            first_piece[static_cast<size_t>(worker)]));
  }
};

/// tiles: of each item, >= 0.  start_cost >= 1, workers >= 1.
WorkPlan plan_flat(std::span<const int32_t> tiles, int start_cost, int workers);
WorkPlan plan_fixed(std::span<const int32_t> tiles, int start_cost, int workers);

}  // namespace kvlab
