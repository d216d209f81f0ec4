// Page layouts, pools and lists: where rows lie, what is shared, what memory they take.

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "core/page_layout.h"
#include "core/page_list.h"
#include "core/page_pool.h"
#include "tests/support/error.h"

namespace kvlab {
namespace {

using test::error_of;
constexpr int64_t kGranule = 4096;

StreamLayout stream(std::string name, int units, std::vector<Encoded::Plane> planes, int tile = 1) {
  StreamLayout layout{.name = std::move(name), .units = units};
  layout.format = {.planes = std::move(planes), .tile_tokens = tile, .row_wise = tile == 1};
  return layout;
}

TEST(PageLayout, PlanesThenColumnsUnitAfterUnit) {
  // 16 tokens.  key: 3 units of 10 bytes a row and 6 bytes per tile of 4; value: 1 unit of 100.
  const PageLayout page = make_page_layout(
      {stream("key", 3, {{.row_bytes = 10}, {.tile_bytes = 6, .metadata = true}}, 4),
       stream("value", 1, {{.row_bytes = 100}})},
      {{"position", Dtype::i32}, {"mass", Dtype::f64}, {"until", Dtype::i32}}, 16);
  EXPECT_EQ(page.page_tokens, 16);
  EXPECT_EQ(page.tile_tokens, 4);
  const auto& key = page.streams[0].planes;
  EXPECT_EQ(key[0].offset, 0);
  EXPECT_EQ(key[0].unit_stride, 160);  // 16 rows of 10
  EXPECT_EQ(key[1].offset, 512);       // 480, to a multiple of 64
  EXPECT_EQ(key[1].unit_stride, 32);   // 4 tiles of 6, to a multiple of 16
  const auto& value = page.streams[1].planes;
  EXPECT_EQ(value[0].offset, 640);  // 608
  EXPECT_EQ(value[0].unit_stride, 1600);
  EXPECT_EQ(page.columns[0].offset, 2240);  // 640 + 1600 is 35 * 64
  EXPECT_EQ(page.columns[1].offset, 2304);
  EXPECT_EQ(page.columns[2].offset, 2432);
  EXPECT_EQ(page.bytes, 2496);
  EXPECT_EQ(page.position, 0);
  EXPECT_EQ(page.until, 2);
  // Slots 2..6: 5 rows, in 2 tiles.
  const RowBytes bytes = row_bytes(page, {2, 7});
  EXPECT_EQ(bytes.payload, 3 * 5 * 10 + 5 * 100);
  EXPECT_EQ(bytes.metadata, 3 * 2 * 6 + 5 * (4 + 8 + 4));
  EXPECT_FALSE(is_row_wise(page));
}

TEST(PageLayout, TilesRaisePagesAndOddSizesAreRefused) {
  EXPECT_EQ(make_page_layout({stream("a", 1, {{.tile_bytes = 7}}, 32)}, {}, 8).page_tokens, 32);
  EXPECT_THAT(error_of([] { make_page_layout({stream("a", 1, {{.tile_bytes = 7}}, 24)}, {}, 8); }),
              testing::HasSubstr("E_CONFIG"));
  EXPECT_THAT(error_of([] { make_page_layout({}, {}, 12); }), testing::HasSubstr("E_CONFIG"));
}

struct Lists {
  Arena arena{{.granule = kGranule}};
  PagePool pool{arena, 256, 1 << 20};
  PageList paged(int page_tokens) { return {pool, page_tokens}; }
  PageList contiguous(int page_tokens) { return {arena, 256, page_tokens, 1 << 16}; }
  void grow(PageList& list, int64_t rows) {
    if (list.is_contiguous())
      list.prepare(rows);
    else
      pool.ensure(list.growth(rows));
    list.extend(rows);
  }
};

TEST(PageList, ThirtySevenRowsTakeThreePagesOfSixteen) {
  Lists lists;
  PageList list = lists.paged(16);
  const auto tail = [&] { return (list.slots().last - 1) % 16 + 1; };
  EXPECT_EQ(list.growth(37), 3);
  lists.grow(list, 37);
  EXPECT_EQ(list.pages(), 3);
  EXPECT_EQ(tail(), 5);
  EXPECT_EQ(list.growth(11), 0);
  lists.grow(list, 11);
  EXPECT_EQ(list.pages(), 3);
  EXPECT_EQ(tail(), 16);
  lists.grow(list, 1);
  EXPECT_EQ(list.pages(), 4);
  EXPECT_EQ(tail(), 1);
  EXPECT_EQ(list.table_bytes(), 16);
  EXPECT_EQ(lists.pool.in_use(), 4);
}

TEST(PageList, RowsReadTheSameWhateverPagesTheyLieIn) {
  Lists lists;
  std::mt19937 random(1);
  const PageLayout page = make_page_layout({}, {{"position", Dtype::i32}}, 16);
  std::vector<int32_t> taken;
  lists.pool.ensure(64);
  for (int i = 0; i < 64; ++i) taken.push_back(lists.pool.take());
  std::ranges::shuffle(taken, random);
  for (const int32_t id : taken) lists.pool.release(id);  // handed out again in a random order
  PageList list = lists.paged(16);
  lists.grow(list, 1000);
  const ListView view = list.view();
  std::vector<int32_t> ids(view.ids, view.ids + 63);
  EXPECT_FALSE(std::ranges::is_sorted(ids));
  EXPECT_EQ(std::set<int32_t>(ids.begin(), ids.end()).size(), 63u);
  ColumnCursor<int32_t> write(page, view, 0), read(page, view, 0);
  for (int64_t slot = 0; slot < 1000; ++slot) write[slot] = static_cast<int32_t>(slot * slot);
  for (int64_t slot = 999; slot >= 0; --slot) ASSERT_EQ(read[slot], slot * slot);
  for (int64_t slot = 0; slot < 1000; ++slot)
    ASSERT_EQ(column_at(page, view, 0, slot),
              view.base + ids[static_cast<size_t>(slot / 16)] * 256 + slot % 16 * 4);
}

TEST(PageList, PagesBeyondFourGigabytesAreAddressed) {
  constexpr int64_t kStride = int64_t{1} << 33;
  Arena arena({.granule = kGranule, .huge_pages = false});
  PagePool pool(arena, kStride, 100);
  PageList list(pool, 2);
  pool.ensure(3);  // address space alone: nothing is written but three words
  list.extend(5);
  const PageLayout page{.page_tokens = 2,
                        .bytes = kStride,
                        .columns = {{.name = "x", .dtype = Dtype::i32, .offset = kStride - 64}}};
  const ListView view = list.view();
  for (const int64_t slot : {0, 3, 4}) {
    u8* const at = column_at(page, view, 0, slot);
    EXPECT_EQ(at, pool.base() + (slot / 2) * kStride + kStride - 64 + slot % 2 * 4);
    *reinterpret_cast<int32_t*>(at) = static_cast<int32_t>(slot + 7);
  }
  for (const int64_t slot : {0, 3, 4})
    EXPECT_EQ(*reinterpret_cast<int32_t*>(column_at(page, view, 0, slot)), slot + 7);
}

TEST(PagePool, EnsureGetsAllOrNothing) {
  Arena arena({.granule = kGranule, .budget = 4 * kGranule});
  PagePool pool(arena, 1024, 1000);
  pool.ensure(8);
  std::vector<int32_t> mine;
  for (int i = 0; i < 8; ++i) mine.push_back(pool.take());
  const ArenaBytes before = arena.bytes();
  EXPECT_THAT(error_of([&] { pool.ensure(9); }), testing::HasSubstr("E_FULL"));
  EXPECT_EQ(arena.bytes(), before);
  EXPECT_EQ(pool.ready(), 0);
  // Four pages are one granule: what is given back can be got again, and undone.
  for (int i = 0; i < 4; ++i) pool.release(mine[static_cast<size_t>(i)]);
  pool.trim(0);
  EXPECT_EQ(arena.bytes().committed, kGranule);
  const PagePool::Ensured ensured = pool.ensure(5);
  EXPECT_EQ(arena.bytes().committed, 3 * kGranule);
  EXPECT_EQ(pool.ready(), 8);
  pool.undo(ensured);
  EXPECT_EQ(arena.bytes().committed, kGranule);
  EXPECT_EQ(pool.ready(), 0);
  pool.ensure(12);
  EXPECT_EQ(arena.bytes().committed, 4 * kGranule);
}

TEST(PagePool, TrimReturnsGranulesThatNoPageInUseTouches) {
  Arena arena({.granule = kGranule});
  PagePool pool(arena, 3000, 1000);  // pages straddle granules
  pool.ensure(40);
  std::vector<int32_t> pages;
  for (int i = 0; i < 40; ++i) pages.push_back(pool.take());
  std::ranges::sort(pages);
  std::memset(pool.page(pages[20]), 7, 3000);
  for (int i = 0; i < 40; ++i)
    if (i != 20) pool.release(pages[static_cast<size_t>(i)]);
  pool.trim(0);
  const int64_t first = 20 * 3000 / kGranule, last = (21 * 3000 - 1) / kGranule;
  EXPECT_EQ(arena.bytes().committed, (last - first + 1) * kGranule);
  EXPECT_EQ(pool.page(20)[2999], 7);
  pool.ensure(39);
  std::set<int32_t> again;
  for (int i = 0; i < 39; ++i) again.insert(pool.take());
  EXPECT_EQ(again.size(), 39u);
  EXPECT_EQ(again.count(20), 0u);
}

TEST(PageList, HolesTrimsAndRemovedPagesGiveTheirMemoryBack) {
  Lists lists;
  PageList list = lists.paged(4);
  lists.grow(list, 30);  // 8 pages
  list.punch({3, 17});   // whole pages 1, 2, 3
  EXPECT_EQ(lists.pool.in_use(), 5);
  EXPECT_EQ(list.view().page(2), nullptr);
  std::vector<Range> seen;
  list.each_page([&](Range slots, int64_t) { seen.push_back(slots); });
  EXPECT_EQ(seen, (std::vector<Range>{{0, 4}, {16, 20}, {20, 24}, {24, 28}, {28, 30}}));
  list.trim(18);
  EXPECT_EQ(lists.pool.in_use(), 4);
  EXPECT_EQ(list.slots(), (Range{18, 30}));
  list.remove_page(5);
  EXPECT_EQ(list.slots(), (Range{18, 26}));
  EXPECT_EQ(lists.pool.in_use(), 3);
  list.truncate(20);
  EXPECT_EQ(lists.pool.in_use(), 1);
  lists.grow(list, 1);
  EXPECT_EQ(list.slots(), (Range{18, 21}));
  list.clear();
  EXPECT_EQ(lists.pool.in_use(), 0);
  list.start_at(1001);
  lists.grow(list, 3);
  EXPECT_EQ(list.slots(), (Range{1001, 1004}));
  EXPECT_EQ(lists.pool.in_use(), 1);
}

// Lists of numbers that fork, grow, shrink and are written, against plain vectors.
class PageListModel : public testing::TestWithParam<bool> {};

TEST_P(PageListModel, ForksShareUntilTheyAreWritten) {
  constexpr int kTokens = 8;
  const PageLayout page = make_page_layout({}, {{"x", Dtype::i64}}, kTokens);
  for (unsigned seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto below = [&](int64_t n) {
      return static_cast<int64_t>(random() % static_cast<unsigned>(n));
    };
    Lists lists;
    struct Pair {
      PageList list;
      std::map<int64_t, int64_t> rows;
    };
    std::vector<Pair> all;
    all.push_back({GetParam() ? lists.contiguous(kTokens) : lists.paged(kTokens), {}});
    int64_t next = 1;
    const auto write = [&](Pair& pair, int64_t slot) {
      ColumnCursor<int64_t>(page, pair.list.view(), 0)[slot] = pair.rows[slot] = next++;
    };
    for (int step = 0; step < 400; ++step) {
      Pair& pair = all[static_cast<size_t>(below(std::ssize(all)))];
      const Range slots = pair.list.slots();
      const int64_t what = below(10);
      if (what < 4) {
        const int64_t rows = below(40);
        lists.grow(pair.list, rows);
        for (int64_t slot = slots.last; slot < slots.last + rows; ++slot) write(pair, slot);
      } else if (what == 4) {
        const int64_t last = slots.first + below(slots.size() + 1);
        pair.list.truncate(last);
        pair.rows.erase(pair.rows.lower_bound(last), pair.rows.end());
      } else if (what == 5 && below(3) == 0) {
        const int64_t first = slots.first + below(slots.size() + 1);
        pair.list.trim(first);
        pair.rows.erase(pair.rows.begin(), pair.rows.lower_bound(first));
      } else if (what == 6 && all.size() < 6) {
        Pair copy{pair.list.fork(lists.arena), pair.rows};
        all.push_back(std::move(copy));
      } else if (what == 7 && all.size() > 1 && below(3) == 0) {
        all.erase(all.begin() + below(std::ssize(all)));
      } else if (what >= 8 && slots.size() > 0) {
        const int64_t first = slots.first + below(slots.size());
        const Range written{first, std::min(slots.last, first + 1 + below(12))};
        if (!GetParam()) lists.pool.ensure(pair.list.copies(written) / 256);
        pair.list.own(written);
        EXPECT_EQ(pair.list.copies(written), 0);
        for (int64_t slot = written.first; slot < written.last; ++slot) write(pair, slot);
      }
      for (const Pair& other : all) {
        ASSERT_EQ(other.list.size(), std::ssize(other.rows)) << "step " << step;
        ColumnCursor<int64_t> read(page, other.list.view(), 0);
        for (const auto& [slot, value] : other.rows)
          ASSERT_EQ(read[slot], value) << "step " << step << " slot " << slot;
      }
    }
    if (GetParam()) continue;
    std::set<int32_t> used;
    for (const Pair& pair : all) {
      const ListView view = pair.list.view();
      for (int64_t k = view.first / kTokens; k * kTokens < view.last; ++k)
        used.insert(view.ids[k - view.first_page]);
    }
    // An empty list may keep the page it would continue.
    EXPECT_LE(lists.pool.in_use() - std::ssize(used), std::ssize(all));
    all.clear();
    EXPECT_EQ(lists.pool.in_use(), 0);
  }
}
INSTANTIATE_TEST_SUITE_P(Addressing, PageListModel, testing::Bool(),
                         [](const auto& one) { return one.param ? "contiguous" : "paged"; });

}  // namespace
}  // namespace kvlab
