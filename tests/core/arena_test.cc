#include "core/arena.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <thread>

#include "core/error.h"

namespace kvlab {
namespace {

using Ranges = std::unique_ptr<Arena::Range>;
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kSmall = 4096;  // granule of tests that count

std::string code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return "";
}

void fill(Arena::Range& range, int64_t from, int64_t to, unsigned salt) {
  for (int64_t i = from; i < to; i += 512)
    range.base()[i] = static_cast<u8>((static_cast<unsigned>(i) / 512u * 7u + salt) & 0xff);
}
bool holds(const Arena::Range& range, int64_t from, int64_t to, unsigned salt) {
  for (int64_t i = from; i < to; i += 512)
    if (range.base()[i] != static_cast<u8>((static_cast<unsigned>(i) / 512u * 7u + salt) & 0xff))
      return false;
  return true;
}

/// What the system holds in memory for a range, by its own books.
int64_t resident_bytes(const Arena::Range& range) {
  std::ifstream file("/proc/self/smaps");
  const auto base = reinterpret_cast<uintptr_t>(range.base());
  int64_t sum = 0;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    uintptr_t first = 0, last = 0;
    int64_t kib = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2)
      inside = first >= base && last <= base + static_cast<uintptr_t>(range.reserved());
    else if (inside && std::sscanf(line.c_str(), "Rss: %ld kB", &kib) == 1)
      sum += kib * 1024;
  }
  return sum;
}

TEST(Arena, GrowthNeverMovesARange) {
  // A thread sanitizer leaves little more than this in one piece.
  constexpr int64_t kReserved = int64_t{1} << 36;
  Arena arena({.granule = 2 * kMiB});
  Ranges range = arena.reserve(kReserved);
  u8* const base = range->base();
  range->commit(3 * 2 * kMiB);
  fill(*range, 0, 6 * kMiB, 1);
  range->commit(16 * kMiB);
  EXPECT_EQ(range->base(), base);
  EXPECT_TRUE(holds(*range, 0, 6 * kMiB, 1));
  EXPECT_EQ(base[6 * kMiB], 0);
  EXPECT_EQ(arena.bytes(), (ArenaBytes{.reserved = kReserved, .committed = 16 * kMiB}));
}

TEST(Arena, FifteenHundredRowsTakeTwoGranules) {
  Arena arena({.granule = 2 * kMiB});
  Ranges range = arena.reserve(64 * kMiB);
  const int64_t used = 1500 * 2048;
  range->commit(used);
  EXPECT_EQ(arena.bytes().committed, 2 * 2 * kMiB);
  EXPECT_NEAR(static_cast<double>(used) / static_cast<double>(arena.bytes().committed), 0.7324,
              5e-5);
}

TEST(Arena, MemoryReturnsToTheSystem) {
  Arena arena({.granule = 2 * kMiB});
  Ranges range = arena.reserve(1024 * kMiB);
  range->commit(256 * kMiB);
  EXPECT_EQ(resident_bytes(*range), 0);
  std::memset(range->base(), 1, 256 * kMiB);
  EXPECT_EQ(resident_bytes(*range), 256 * kMiB);
  range->discard(2 * kMiB, 100 * kMiB);
  EXPECT_EQ(resident_bytes(*range), 156 * kMiB);
  range->decommit(4 * kMiB);
  EXPECT_EQ(resident_bytes(*range), 2 * kMiB);
  range->decommit(0);
  EXPECT_EQ(resident_bytes(*range), 0);
  EXPECT_EQ(arena.bytes().committed, 0);
}

TEST(Arena, DecommittedMemoryFaults) {
  Arena arena({.granule = kSmall});
  Ranges range = arena.reserve(8 * kSmall);
  range->commit(8 * kSmall);
  range->decommit(3 * kSmall - 1);  // the granule that is still used stays
  EXPECT_EQ(range->committed(), 3 * kSmall);
  // A file write from inaccessible memory is refused by the system instead of ending the test.
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  EXPECT_EQ(write(pipe_ends[1], range->base() + 2 * kSmall, 1), 1);
  EXPECT_EQ(write(pipe_ends[1], range->base() + 3 * kSmall, 1), -1);
  EXPECT_EQ(errno, EFAULT);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

TEST(Arena, FreeThenReserveAgainMapsNothing) {
  Arena arena({.granule = kSmall});
  Ranges range = arena.reserve(64 * kSmall);
  range->commit(5 * kSmall);
  const u8* const base = range->base();
  range.reset();
  EXPECT_EQ(arena.bytes(),
            (ArenaBytes{.reserved = 64 * kSmall, .committed = 5 * kSmall, .deferred = 5 * kSmall}));
  const int64_t maps = arena.granules_mapped();
  range = arena.reserve(64 * kSmall, 5 * kSmall);
  range->commit(5 * kSmall);
  EXPECT_EQ(range->base(), base);
  EXPECT_EQ(arena.granules_mapped(), maps);
  EXPECT_EQ(arena.bytes().deferred, 0);
}

TEST(Arena, BestFitTakesTheSmallestThatHoldsWhatIsExpected) {
  Arena arena({.granule = kSmall});
  std::vector<Ranges> ranges;
  for (const int64_t granules : {9, 1, 5}) {
    ranges.push_back(arena.reserve(16 * kSmall));
    ranges.back()->commit(granules * kSmall);
  }
  u8* const nine = ranges[0]->base();
  u8* const one = ranges[1]->base();
  u8* const five = ranges[2]->base();
  ranges.clear();
  EXPECT_EQ(arena.reserve(16 * kSmall, 5 * kSmall)->base(), five);
  EXPECT_EQ(arena.reserve(16 * kSmall, 6 * kSmall)->base(), nine);
  EXPECT_EQ(arena.reserve(16 * kSmall, 10 * kSmall)->base(), nine);  // none fits: the most
  EXPECT_EQ(arena.reserve(16 * kSmall, 0)->base(), one);
}

TEST(Arena, AnIdleRangeWithFiveGranulesIsBetterThanAnEmptyOne) {
  Arena arena({.granule = kSmall});
  Ranges empty = arena.reserve(16 * kSmall), full = arena.reserve(16 * kSmall);
  full->commit(5 * kSmall);
  u8* const base = full->base();
  empty.reset();
  full.reset();
  EXPECT_EQ(arena.reserve(16 * kSmall, 5 * kSmall)->base(), base);
}

TEST(Arena, DeferredMemoryIsStolenOnlyAfterItsFence) {
  Arena arena({.granule = kSmall, .budget = 8 * kSmall});
  bool finished = false;
  Ranges range = arena.reserve(64 * kSmall);
  range->commit(6 * kSmall);
  fill(*range, 0, 6 * kSmall, 3);
  const u8* const old = range->base();
  range->set_fence([&] { return finished; });
  range.reset();

  Ranges next = arena.reserve(64 * kSmall, 6 * kSmall);
  EXPECT_NE(next->base(), old);                                     // neither reused
  EXPECT_EQ(code_of([&] { next->commit(3 * kSmall); }), "E_FULL");  // nor released
  arena.trim();
  EXPECT_EQ(arena.bytes().committed, 6 * kSmall);
  EXPECT_EQ(next->committed(), 0);
  EXPECT_EQ(arena.available(), 2 * kSmall);

  finished = true;
  EXPECT_EQ(arena.available(), 8 * kSmall);
  next->commit(3 * kSmall);
  EXPECT_EQ(arena.bytes(), (ArenaBytes{.reserved = 64 * kSmall, .committed = 3 * kSmall}));
}

TEST(Arena, TheBudgetCountsWhatIsHeldElsewhere) {
  Arena arena({.granule = kSmall, .budget = 4 * kSmall});
  arena.charge(kSmall + 1);
  Ranges range = arena.reserve(64 * kSmall);
  range->commit(2 * kSmall);
  EXPECT_EQ(code_of([&] { range->commit(3 * kSmall); }), "E_FULL");
  EXPECT_EQ(range->committed(), 2 * kSmall);
  EXPECT_EQ(code_of([&] { arena.charge(kSmall); }), "E_FULL");
  arena.charge(-kSmall - 1);
  range->commit(4 * kSmall);
  EXPECT_EQ(code_of([&] { range->commit(65 * kSmall); }), "E_FULL");  // beyond the range
  EXPECT_EQ(arena.bytes(), (ArenaBytes{.reserved = 64 * kSmall, .committed = 4 * kSmall}));
}

TEST(Arena, AnErrorNamesBudgetAndUse) {
  Arena arena({.granule = kSmall, .budget = kSmall});
  Ranges range = arena.reserve(4 * kSmall);
  try {
    range->commit(4 * kSmall);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "E_FULL: arena: 16384 more bytes do not fit the budget of 4096 (committed 0, of "
                 "it deferred 0, held elsewhere 0, reserved 16384); raise max_bytes or free "
                 "sequences");
  }
}

TEST(Arena, AnAliasIsTheSameMemory) {
  Arena arena({.granule = kSmall});
  Ranges a = arena.reserve(8 * kSmall), b = arena.reserve(8 * kSmall);
  a->commit(5 * kSmall);
  fill(*a, 0, 5 * kSmall, 1);
  u8* const base = a->base();
  b->alias(*a, 3 * kSmall);
  EXPECT_EQ(a->base(), base);
  EXPECT_TRUE(holds(*a, 0, 5 * kSmall, 1));
  EXPECT_TRUE(holds(*b, 0, 3 * kSmall, 1));
  EXPECT_EQ(arena.bytes().committed, 5 * kSmall);  // shared granules count once
  EXPECT_EQ(b->committed(), 3 * kSmall);
  a->base()[kSmall + 5] = 77;
  EXPECT_EQ(b->base()[kSmall + 5], 77);
  b->base()[2 * kSmall] = 78;
  EXPECT_EQ(a->base()[2 * kSmall], 78);
  EXPECT_EQ(a->sharers(0), 2);
  EXPECT_EQ(a->sharers(3 * kSmall), 1);
  EXPECT_EQ(a->identity(kSmall), b->identity(kSmall));
  EXPECT_NE(a->identity(kSmall), a->identity(0));
  EXPECT_EQ(a->identity(4 * kSmall), -1);
}

TEST(Arena, APrivateCopyParts) {
  Arena arena({.granule = kSmall});
  Ranges a = arena.reserve(8 * kSmall), b = arena.reserve(8 * kSmall);
  a->commit(2 * kSmall);
  fill(*a, 0, 2 * kSmall, 1);
  b->alias(*a, 2 * kSmall);
  b->make_private(kSmall + 17);
  EXPECT_EQ(arena.bytes().committed, 3 * kSmall);
  EXPECT_EQ(b->sharers(0), 2);
  EXPECT_EQ(b->sharers(kSmall), 1);
  fill(*b, kSmall, 2 * kSmall, 9);
  EXPECT_TRUE(holds(*a, 0, 2 * kSmall, 1));
  EXPECT_TRUE(holds(*b, kSmall, 2 * kSmall, 9));
  a->make_private(kSmall);  // nobody else: already private
  EXPECT_EQ(arena.bytes().committed, 3 * kSmall);
  a.reset();
  EXPECT_EQ(b->sharers(0), 1);
  EXPECT_EQ(arena.bytes().committed, 2 * kSmall);
  EXPECT_TRUE(holds(*b, 0, kSmall, 1));
}

TEST(Arena, SharedMemoryIsNeverHandedOutAgain) {
  Arena arena({.granule = kSmall});
  Ranges a = arena.reserve(8 * kSmall), b = arena.reserve(8 * kSmall);
  a->commit(2 * kSmall);
  fill(*a, 0, 2 * kSmall, 1);
  b->alias(*a, 2 * kSmall);
  a.reset();
  Ranges c = arena.reserve(8 * kSmall, 2 * kSmall);
  c->commit(2 * kSmall);
  fill(*c, 0, 2 * kSmall, 5);
  EXPECT_TRUE(holds(*b, 0, 2 * kSmall, 1));
}

TEST(Arena, AnAliasOfAnAliasSharesThreeWays) {
  Arena arena({.granule = kSmall});
  Ranges a = arena.reserve(8 * kSmall), b = arena.reserve(8 * kSmall),
         c = arena.reserve(8 * kSmall);
  a->commit(4 * kSmall);
  fill(*a, 0, 4 * kSmall, 1);
  b->alias(*a, 2 * kSmall);
  b->commit(3 * kSmall);
  fill(*b, 2 * kSmall, 3 * kSmall, 2);
  c->alias(*b, 3 * kSmall);
  EXPECT_EQ(a->sharers(0), 3);
  EXPECT_EQ(c->sharers(2 * kSmall), 2);
  EXPECT_TRUE(holds(*c, 0, 2 * kSmall, 1));
  EXPECT_TRUE(holds(*c, 2 * kSmall, 3 * kSmall, 2));
  EXPECT_EQ(arena.bytes().committed, 5 * kSmall);
  b.reset();
  c.reset();
  EXPECT_EQ(arena.bytes().committed, 4 * kSmall);
}

TEST(Arena, DiscardedMemoryReadsAsZeroAndCostsNothing) {
  Arena arena({.granule = kSmall, .budget = 8 * kSmall});
  Ranges range = arena.reserve(8 * kSmall);
  range->commit(8 * kSmall);
  fill(*range, 0, 8 * kSmall, 1);
  range->discard(kSmall - 1, 3 * kSmall);  // granules 1 and 2: only whole ones
  EXPECT_EQ(arena.bytes().committed, 6 * kSmall);
  EXPECT_EQ(range->discarded(0, 8 * kSmall), 2 * kSmall);
  EXPECT_EQ(range->base()[kSmall], 0);
  EXPECT_TRUE(holds(*range, 0, kSmall, 1));
  EXPECT_TRUE(holds(*range, 3 * kSmall, 8 * kSmall, 1));
  Ranges other = arena.reserve(8 * kSmall);
  other->commit(kSmall);
  EXPECT_EQ(code_of([&] { range->reclaim(0, 8 * kSmall); }), "E_FULL");
  EXPECT_EQ(range->discarded(0, 8 * kSmall), 2 * kSmall);
  range->reclaim(2 * kSmall + 5, 1);
  EXPECT_EQ(arena.bytes().committed, 8 * kSmall);
  fill(*range, 2 * kSmall, 3 * kSmall, 4);
  EXPECT_TRUE(holds(*range, 2 * kSmall, 3 * kSmall, 4));
}

TEST(Arena, WrongUseIsRefused) {
  EXPECT_EQ(code_of([] { Arena arena({.granule = 1000}); }), "E_CONFIG");
  EXPECT_EQ(code_of([] { Arena arena({.granule = 0}); }), "E_CONFIG");
  Arena arena({.granule = kSmall}), stranger({.granule = kSmall});
  EXPECT_EQ(code_of([&] { arena.reserve(0); }), "E_CONFIG");
  EXPECT_EQ(code_of([&] { arena.reserve(int64_t{1} << 60); }), "E_MEMORY");
  Ranges a = arena.reserve(8 * kSmall), b = arena.reserve(8 * kSmall);
  Ranges c = stranger.reserve(8 * kSmall);
  a->commit(2 * kSmall);
  for (const auto& [range, bytes] : std::vector<std::pair<Arena::Range*, int64_t>>{
           {b.get(), 3 * kSmall}, {b.get(), kSmall + 1}, {c.get(), kSmall}, {a.get(), kSmall}})
    EXPECT_EQ(code_of([&, r = range, n = bytes] { r->alias(*a, n); }), "E_ALIGN");
}

TEST(Arena, PopulateFaultsMemoryInAtCommit) {
  Arena arena({.granule = 2 * kMiB, .populate = true});
  Ranges range = arena.reserve(64 * kMiB);
  range->commit(32 * kMiB);
  EXPECT_EQ(resident_bytes(*range), 32 * kMiB);
}

// What an arena must count, kept by hand: a range is a vector of granule names; equal names are the
// same memory, 0 is discarded.
struct Model {
  int64_t next = 1, charged = 0;
  std::map<int, std::vector<int64_t>> live;
  std::multiset<int64_t> idle;  // granules of deferred ranges
  std::set<int64_t> once_shared;

  int64_t committed() const {
    std::set<int64_t> all;
    for (const auto& [id, granules] : live) all.insert(granules.begin(), granules.end());
    all.erase(0);
    return static_cast<int64_t>(all.size()) + std::accumulate(idle.begin(), idle.end(), int64_t{0});
  }
  int sharers(int64_t name) const {
    int count = 0;
    for (const auto& [id, granules] : live)
      count += static_cast<int>(std::ranges::count(granules, name));
    return count;
  }
};

TEST(Arena, TenThousandRandomOperationsCountExactly) {
  constexpr int64_t kMost = 12;
  for (const unsigned seed : {1u, 2u, 3u}) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto below = [&](int64_t n) {
      return static_cast<int64_t>(random() % static_cast<unsigned>(n));
    };
    Arena arena({.granule = kSmall});
    std::map<int, Ranges> ranges;
    Model model;
    int names = 0;
    for (int step = 0; step < 10000; ++step) {
      const int64_t what = below(10);
      auto at = ranges.begin();
      if (!ranges.empty()) std::advance(at, below(std::ssize(ranges)));
      if (ranges.size() < 3 || (what == 0 && ranges.size() < 12)) {
        const int64_t expected = below(kMost);
        std::vector<int64_t> granules;
        if (!model.idle.empty()) {  // the smallest that fits, else the largest
          auto fit = model.idle.lower_bound(expected);
          if (fit == model.idle.end()) --fit;
          for (int64_t i = 0; i < *fit; ++i) granules.push_back(model.next++);
          model.idle.erase(fit);
        }
        Ranges range = arena.reserve(kMost * kSmall, expected * kSmall);
        ASSERT_EQ(range->committed(), std::ssize(granules) * kSmall) << "step " << step;
        for (int64_t i = 0; i < std::ssize(granules); ++i)
          *reinterpret_cast<int64_t*>(range->base() + i * kSmall) =
              granules[static_cast<size_t>(i)];
        ranges[++names] = std::move(range);
        model.live[names] = granules;
        continue;
      }
      Arena::Range& range = *at->second;
      std::vector<int64_t>& mine = model.live[at->first];
      const auto name_new = [&](size_t i) {
        mine[i] = model.next++;
        *reinterpret_cast<int64_t*>(range.base() + static_cast<int64_t>(i) * kSmall) = mine[i];
      };
      if (what <= 2) {  // grow
        const int64_t granules = below(kMost + 1);
        range.commit(granules * kSmall - below(kSmall));
        const size_t old = mine.size();
        mine.resize(std::max(mine.size(), static_cast<size_t>(granules)));
        for (size_t i = old; i < mine.size(); ++i) name_new(i);
      } else if (what == 3) {  // shrink
        const int64_t granules = below(kMost + 1);
        range.decommit(granules * kSmall);
        mine.resize(std::min(mine.size(), static_cast<size_t>(granules)));
      } else if (what == 4 && !mine.empty()) {  // discard
        const auto first = static_cast<size_t>(below(std::ssize(mine)));
        const size_t last = std::min(mine.size(), first + 1 + static_cast<size_t>(below(3)));
        range.discard(static_cast<int64_t>(first) * kSmall,
                      static_cast<int64_t>(last - first) * kSmall);
        for (size_t i = first; i < last; ++i) mine[i] = 0;
      } else if (what == 5 && !mine.empty()) {  // reclaim
        const auto i = static_cast<size_t>(below(std::ssize(mine)));
        range.reclaim(static_cast<int64_t>(i) * kSmall, 1);
        if (mine[i] == 0) name_new(i);
      } else if (what == 6) {                                   // alias
        Ranges other = arena.reserve(kMost * kSmall + kSmall);  // larger: no idle range has room
        const int64_t shared = below(std::ssize(mine) + 1);
        other->alias(range, shared * kSmall);
        ranges[++names] = std::move(other);
        model.live[names].assign(mine.begin(), mine.begin() + shared);
        for (int64_t i = 0; i < shared; ++i)
          if (mine[static_cast<size_t>(i)] != 0)
            model.once_shared.insert(mine[static_cast<size_t>(i)]);
      } else if (what == 7 && !mine.empty()) {  // copy on write
        const auto i = static_cast<size_t>(below(std::ssize(mine)));
        range.make_private(static_cast<int64_t>(i) * kSmall);
        if (mine[i] != 0 && model.sharers(mine[i]) > 1) name_new(i);
      } else if (what == 8) {  // free
        const bool again = !mine.empty() && range.reserved() == kMost * kSmall &&
                           std::ranges::none_of(mine, [&](int64_t name) {
                             return name == 0 || model.once_shared.contains(name);
                           });
        if (again) model.idle.insert(std::ssize(mine));
        const bool larger_kept = range.reserved() != kMost * kSmall;
        model.live.erase(at->first);
        if (larger_kept) range.decommit(0);  // so that it is not deferred
        ranges.erase(at);
      } else if (what == 9 && below(20) == 0) {
        arena.trim();
        model.idle.clear();
      }
      ASSERT_EQ(arena.bytes().committed, model.committed() * kSmall) << "step " << step;
      ASSERT_EQ(arena.bytes().deferred,
                std::accumulate(model.idle.begin(), model.idle.end(), int64_t{0}) * kSmall);
      const auto& [id, granules] = *std::next(model.live.begin(), below(std::ssize(model.live)));
      for (size_t i = 0; i < granules.size(); ++i) {
        const int64_t offset = static_cast<int64_t>(i) * kSmall;
        ASSERT_EQ(*reinterpret_cast<int64_t*>(ranges[id]->base() + offset), granules[i])
            << "step " << step << " granule " << i;
        ASSERT_EQ(ranges[id]->sharers(offset), granules[i] == 0 ? 0 : model.sharers(granules[i]));
      }
    }
    ranges.clear();
    arena.trim();
    ASSERT_EQ(arena.bytes(), ArenaBytes{});
  }
}

TEST(Arena, ABackgroundThreadMayCommitFreeAndTrim) {
  Arena arena({.granule = kSmall, .budget = 4096 * kSmall});
  std::atomic<int> clock{0};
  const auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 300; ++i) {
      Ranges range = arena.reserve(64 * kSmall, static_cast<int64_t>(random() % 8) * kSmall);
      range->commit(static_cast<int64_t>(random() % 32 + 1) * kSmall);
      fill(*range, 0, range->committed(), seed);
      Ranges copy = arena.reserve(65 * kSmall);
      if (copy->committed() == 0) copy->alias(*range, kSmall);
      if (random() % 2) copy->make_private(0);
      range->discard(0, kSmall);
      range->reclaim(0, kSmall);
      if (random() % 4 == 0)
        range->set_fence([&, end = ++clock + 5] { return clock.load() >= end; });
      ++clock;
      if (random() % 8 == 0) arena.trim();
      ASSERT_LE(arena.bytes().committed, 4096 * kSmall);
    }
    clock += 5;
  };
  std::vector<std::thread> threads;
  for (const unsigned seed : {1u, 2u, 3u}) threads.emplace_back(work, seed);
  for (std::thread& thread : threads) thread.join();
  arena.trim();
  EXPECT_EQ(arena.bytes(), ArenaBytes{});
}

TEST(Arena, ARangeOutlivesItsArena) {
  Ranges range;
  {
    Arena arena({.granule = kSmall});
    range = arena.reserve(4 * kSmall);
  }
  range->commit(kSmall);
  fill(*range, 0, kSmall, 1);
  EXPECT_TRUE(holds(*range, 0, kSmall, 1));
}

}  // namespace
}  // namespace kvlab
