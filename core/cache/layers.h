#pragma once
// What never changes while a cache lives: each layer's streams, the groups of lists that hold them,
// the forms they take, and what every selector wants of the layer.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/compose.h"
#include "core/model_shape.h"
#include "core/registry.h"
#include "core/stage.h"
#include "core/store.h"

namespace kvlab::cache {

/// Owner of a stream, column or state: the layout, or a selector by number.
inline constexpr int kLayout = -1;

/// A stream as its stage named it, and where it lies.
struct Stream {
  int owner = kLayout;
  StreamSpec spec{};
  Dtype dtype = Dtype::f32;  // of rows as they come
  std::string page_name{};   // "key", "select0/gate"
  int group = -1;            // of the store
  int index = 0;             // in the group's pages but `chunk`
  int chunk_index = -1;      // in `chunk` pages
};

/// A column as its stage named it; columns lie in the layer's main group.
struct ColumnOf {
  int owner = kLayout;
  Column column{};
  std::string page_name{};
};

/// Streams that share lists.
struct Group {
  int layer = 0;
  int lists = 1;       // per sequence
  bool drops = false;  // selectors may drop rows: positions are explicit
  bool cross = false;
  int64_t first = 0;        // positions below it go to `first`
  int tile = 1;             // rows move in tiles
  int64_t lag = 0;          // at which they move
  bool lossy = false;       // what moves changes
  bool direct = false;      // rows enter the past at append
  bool exact_entry = true;  // rows are stored at append as they came: no `chunk` part
  bool row_wise = true;     // past
  // `recent` of the selectors that drop rows: the largest and the smallest.
  int64_t longest = 1, shortest = 1;
  bool mixed = false;          // dead rows may lie between living ones in `recent`
  std::vector<int> streams{};  // of the layer
};

struct LayerPlan {
  Layout layout{};
  bool is_dense = false;    // the default layout: core fills the streams itself
  int source = -1;          // the layer whose rows it reads: itself or rows_of; -1: reads none
  bool stores = false;      // appends rows
  int last_reader = 0;      // the highest layer that reads its rows
  int main = -1, all = -1;  // groups: of the lists selectors act on, of streams that keep every row
  std::vector<Stream> streams{};
  std::vector<ColumnOf> columns{};
  std::vector<Selection> selections{};  // per selector; of layers selectors are asked about
  bool reindexes = false;
  int64_t sinks = 0, window = 0;  // of the selector that re-indexes
  bool wants_writes = false;      // selectors may write columns or drop rows by rank
  int shape_class = 0;            // equal for layers whose shapes differ in block alone
};

struct StateOf {
  int owner = kLayout;  // kLayout: the model's
  int layer = -1;       // of a selector's
  StateSpec spec{};
  int64_t bytes = 0;
};

/// Everything above, for all layers.
struct Layers {
  Dtype run_dtype = Dtype::f32;  // of streams that declare none
  std::vector<LayerPlan> plans{};
  std::vector<Group> groups{};
  std::vector<GroupPages> pages{};  // per group
  std::vector<StateOf> states{};
  int64_t state_bytes = 0;  // per sequence

  int find_stream(int layer, int owner, std::string_view name) const;  // index or -1
  int find_column(int layer, int owner, std::string_view name) const;
  int find_state(int layer, int owner, std::string_view name) const;
};

struct LayerOptions {
  Dtype run_dtype = Dtype::f32;
  int page_tokens = 64;
  enum class Addressing : u8 { automatic, paged, contiguous } addressing = Addressing::automatic;
};

/// E_COMPOSE, E_CONFIG, E_UNKNOWN: stages that do not fit the shape or each other.
Layers plan_layers(const ModelShape& shape, const Composition& composition,
                   const Registry& registry, const LayerOptions& options);

}  // namespace kvlab::cache
