#include "core/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <mutex>
#include <vector>

#include "core/error.h"

namespace kvlab {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kCopyStep = int64_t{64} << 20;  // most memory held twice while it becomes shared

// What lies behind a granule of a range's committed prefix: anonymous memory, nothing (reads as
// zero), or, from 0 on, a granule of the arena's memfd.
constexpr int64_t kPrivate = -1, kDiscarded = -2;

[[noreturn]] void system_failed(const char* call, int64_t bytes) {
  fail("E_MEMORY", "arena: ", call, " of ", bytes, " bytes failed: ", std::strerror(errno),
       "; free memory, raise vm.max_map_count, or use fewer or shorter sequences");
}

u8* map_anonymous(void* at, int64_t bytes, int protection, int more_flags) {
  void* base = mmap(at, static_cast<size_t>(bytes), protection,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | more_flags, -1, 0);
  return base == MAP_FAILED ? nullptr : static_cast<u8*>(base);
}

/// Address space of `bytes` bytes at a multiple of `alignment`.
u8* reserve_aligned(int64_t bytes, int64_t alignment) {
  u8* const raw = map_anonymous(nullptr, bytes + alignment, PROT_NONE, 0);
  if (raw == nullptr) system_failed("reserving", bytes);
  const auto address = reinterpret_cast<uintptr_t>(raw);
  u8* const base =
      raw + (round_up(static_cast<int64_t>(address), alignment) - static_cast<int64_t>(address));
  if (base > raw) munmap(raw, static_cast<size_t>(base - raw));
  u8* const end = base + bytes;
  if (raw + bytes + alignment > end)
    munmap(end, static_cast<size_t>(raw + bytes + alignment - end));
  return base;
}

}  // namespace

struct Arena::Range::State {
  std::shared_ptr<Arena::State> arena;
  u8* base = nullptr;
  int64_t reserved = 0;
  std::vector<int64_t> granules;  // of the committed prefix: kPrivate, kDiscarded or a memfd index
  Fence fence;

  bool plain() const {
    return std::ranges::all_of(granules, [](int64_t g) { return g == kPrivate; });
  }
  bool idle() const { return !fence || fence(); }
};

struct Arena::State {
  Options options;
  mutable std::mutex mutex;  // guards everything below
  int64_t reserved = 0, committed = 0, deferred = 0, charged = 0, mapped = 0;
  std::vector<std::unique_ptr<Range::State>> dead;  // deferred ranges
  int file = -1;                                    // memfd of shared granules, made when needed
  std::vector<int32_t> mappings;                    // per granule of the file; 0: free
  std::vector<int64_t> unused;                      // granules of the file

  ~State() {
    for (auto& range : dead) munmap(range->base, static_cast<size_t>(range->reserved));
    if (file >= 0) close(file);
  }

  int64_t granule() const { return options.granule; }

  // All functions below want the mutex held.

  /// A granule stops being mapped by one range.  Its mapping is the caller's business.
  void drop_granule(int64_t what) {
    if (what == kDiscarded) return;
    if (what >= 0) {
      if (--mappings[static_cast<size_t>(what)] > 0) return;
      fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, what * granule(), granule());
      unused.push_back(what);
    }
    committed -= granule();
  }

  void release(Range::State& range) {
    munmap(range.base, static_cast<size_t>(range.reserved));
    for (const int64_t what : range.granules) drop_granule(what);
    reserved -= range.reserved;
  }

  static int64_t private_bytes(const Range::State& range, int64_t granule) {
    return granule * std::ranges::count(range.granules, kPrivate);
  }

  void release_dead(size_t i) {
    deferred -= private_bytes(*dead[i], granule());
    release(*dead[i]);
    dead.erase(dead.begin() + static_cast<std::ptrdiff_t>(i));
  }

  /// Releases idle deferred ranges until `bytes` more fit the budget, or there are no more.
  void make_room(int64_t bytes) {
    if (options.budget < 0) return;
    for (size_t i = 0; i < dead.size() && committed + charged + bytes > options.budget;)
      dead[i]->idle() ? release_dead(i) : static_cast<void>(++i);
  }

  void require_room(int64_t bytes) {
    make_room(bytes);
    KVLAB_REQUIRE(options.budget < 0 || committed + charged + bytes <= options.budget, "E_FULL",
                  "arena: ", bytes, " more bytes do not fit the budget of ", options.budget,
                  " (committed ", committed, ", of it deferred ", deferred, ", held elsewhere ",
                  charged, ", reserved ", reserved, "); raise max_bytes or free sequences");
  }

  void ensure_file() {
    if (file >= 0) return;
    file = memfd_create("kvlab", MFD_CLOEXEC);
    if (file < 0) system_failed("memfd_create", granule());
  }

  /// The first of `count` consecutive granules at the end of the file; mapped by nobody yet.
  int64_t extend_file(int64_t count) {
    const auto first = static_cast<int64_t>(mappings.size());
    if (ftruncate(file, (first + count) * granule()) != 0)
      system_failed("growing the shared file", count * granule());
    mappings.resize(static_cast<size_t>(first + count), 0);
    return first;
  }

  void write_file(const u8* data, int64_t bytes, int64_t offset) {
    while (bytes > 0) {
      const ssize_t written = pwrite(file, data, static_cast<size_t>(bytes), offset);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) system_failed("filling the shared file", bytes);
      data += written, offset += written, bytes -= written;
    }
  }

  bool map_file(u8* at, int64_t index, int64_t count) {
    return mmap(at, static_cast<size_t>(count * granule()), PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_FIXED, file, index * granule()) != MAP_FAILED;
  }

  /// Moves private granules [first, last) of a range to the file: the same bytes at the same place.
  void share(Range::State& range, int64_t first, int64_t last) {
    const int64_t step = std::max<int64_t>(kCopyStep / granule(), 1);
    while (first < last) {
      const int64_t count = std::min(step, last - first);
      const bool single = count == 1 && !unused.empty();
      const int64_t index = single ? unused.back() : extend_file(count);
      if (single) unused.pop_back();
      u8* const at = range.base + first * granule();
      try {
        write_file(at, count * granule(), index * granule());
        if (!map_file(at, index, count)) system_failed("mapping shared memory", count * granule());
      } catch (...) {
        for (int64_t i = 0; i < count; ++i) unused.push_back(index + i);
        throw;
      }
      for (int64_t i = 0; i < count; ++i) {
        range.granules[static_cast<size_t>(first + i)] = index + i;
        mappings[static_cast<size_t>(index + i)] = 1;
      }
      first += count;
    }
  }
};

// ---- Arena ----

Arena::Arena(const Options& options) : state_(std::make_shared<State>()) {
  const int64_t page = sysconf(_SC_PAGESIZE);
  KVLAB_REQUIRE(options.granule > 0 && options.granule % page == 0, "E_CONFIG", "arena: granule ",
                options.granule, " is not a positive multiple of the system's page, ", page);
  state_->options = options;
}

Arena::~Arena() = default;

std::unique_ptr<Arena::Range> Arena::reserve(int64_t bytes, int64_t expected) {
  KVLAB_REQUIRE(bytes > 0, "E_CONFIG", "arena: cannot reserve ", bytes, " bytes");
  State& arena = *state_;
  bytes = round_up(bytes, arena.granule());
  const std::lock_guard lock(arena.mutex);
  // The smallest that holds `expected`, else the largest.
  std::ptrdiff_t best = -1;
  const auto held = [&](std::ptrdiff_t i) {
    return arena.granule() *
           static_cast<int64_t>(arena.dead[static_cast<size_t>(i)]->granules.size());
  };
  for (std::ptrdiff_t i = 0; i < std::ssize(arena.dead); ++i) {
    const Range::State& range = *arena.dead[static_cast<size_t>(i)];
    if (range.reserved < bytes || !range.plain() || !range.idle()) continue;
    const bool fits = held(i) >= expected, best_fits = best >= 0 && held(best) >= expected;
    if (best < 0 || (fits && !best_fits) ||
        (fits == best_fits && (fits ? held(i) < held(best) : held(i) > held(best))))
      best = i;
  }
  if (best >= 0) {
    auto range = std::move(arena.dead[static_cast<size_t>(best)]);
    arena.dead.erase(arena.dead.begin() + best);
    arena.deferred -= State::private_bytes(*range, arena.granule());
    range->fence = nullptr;
    range->arena = state_;
    return std::unique_ptr<Range>(new Range(std::move(range)));
  }
  auto range = std::make_unique<Range::State>();
  const bool huge = arena.options.huge_pages && bytes >= kHugePage;
  range->base =
      reserve_aligned(bytes, huge ? std::max(kHugePage, arena.granule()) : arena.granule());
  if (huge) madvise(range->base, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // advice alone
  range->reserved = bytes;
  range->arena = state_;
  arena.reserved += bytes;
  return std::unique_ptr<Range>(new Range(std::move(range)));
}

void Arena::charge(int64_t delta) {
  const std::lock_guard lock(state_->mutex);
  if (delta > 0) state_->require_room(delta);
  state_->charged += delta;
  KVLAB_CHECK(state_->charged >= 0);
}

int64_t Arena::available() const {
  const std::lock_guard lock(state_->mutex);
  const State& arena = *state_;
  if (arena.options.budget < 0) return std::numeric_limits<int64_t>::max();
  int64_t free = arena.options.budget - arena.committed - arena.charged;
  for (const auto& range : arena.dead)
    if (range->idle()) free += State::private_bytes(*range, arena.granule());
  return std::max<int64_t>(free, 0);
}

ArenaBytes Arena::bytes() const {
  const std::lock_guard lock(state_->mutex);
  return {state_->reserved, state_->committed, state_->deferred, state_->charged};
}

int64_t Arena::granules_mapped() const {
  const std::lock_guard lock(state_->mutex);
  return state_->mapped;
}

void Arena::trim() {
  const std::lock_guard lock(state_->mutex);
  for (size_t i = 0; i < state_->dead.size();)
    state_->dead[i]->idle() ? state_->release_dead(i) : static_cast<void>(++i);
}

int64_t Arena::granule() const { return state_->granule(); }

// ---- Range ----

Arena::Range::Range(std::unique_ptr<State> state) : state_(std::move(state)) {}

Arena::Range::~Range() {
  const std::shared_ptr<Arena::State> arena = std::move(state_->arena);
  const std::lock_guard lock(arena->mutex);
  // Shared granules must not be handed out again, and nobody waits for memory that is not there.
  const bool keep = !state_->idle() || (!state_->granules.empty() && state_->plain());
  if (!keep) {
    arena->release(*state_);
    return;
  }
  arena->deferred += Arena::State::private_bytes(*state_, arena->granule());
  arena->dead.push_back(std::move(state_));
}

u8* Arena::Range::base() const { return state_->base; }
int64_t Arena::Range::reserved() const { return state_->reserved; }
int64_t Arena::Range::committed() const {
  return static_cast<int64_t>(state_->granules.size()) * state_->arena->granule();
}
int64_t Arena::Range::granule() const { return state_->arena->granule(); }
void Arena::Range::set_fence(Fence fence) { state_->fence = std::move(fence); }

void Arena::Range::commit(int64_t bytes) {
  Arena::State& arena = *state_->arena;
  KVLAB_REQUIRE(bytes <= state_->reserved, "E_FULL", "arena: ", bytes,
                " bytes exceed the range of ", state_->reserved,
                " reserved bytes; raise max_tokens");
  const int64_t old = committed(), wanted = round_up(bytes, arena.granule());
  if (wanted <= old) return;
  {
    const std::lock_guard lock(arena.mutex);
    arena.require_room(wanted - old);
    arena.committed += wanted - old;
  }
  const auto size = static_cast<size_t>(wanted - old);
  u8* const at = state_->base + old;
  bool done = mprotect(at, size, PROT_READ | PROT_WRITE) == 0;
  if (done && arena.options.populate) done = madvise(at, size, MADV_POPULATE_WRITE) == 0;
  const std::lock_guard lock(arena.mutex);
  if (!done) {
    const int cause = errno;
    map_anonymous(at, wanted - old, PROT_NONE, MAP_FIXED);
    arena.committed -= wanted - old;
    errno = cause;
    system_failed("committing", wanted - old);
  }
  arena.mapped += (wanted - old) / arena.granule();
  state_->granules.resize(static_cast<size_t>(wanted / arena.granule()), kPrivate);
}

void Arena::Range::decommit(int64_t bytes) {
  Arena::State& arena = *state_->arena;
  const int64_t kept = round_up(std::max<int64_t>(bytes, 0), arena.granule()), old = committed();
  if (kept >= old) return;
  // One call whatever lies there: fresh inaccessible address space.
  if (map_anonymous(state_->base + kept, old - kept, PROT_NONE, MAP_FIXED) == nullptr)
    system_failed("decommitting", old - kept);
  if (arena.options.huge_pages && state_->reserved >= kHugePage)
    madvise(state_->base + kept, static_cast<size_t>(old - kept), MADV_HUGEPAGE);
  const std::lock_guard lock(arena.mutex);
  for (auto i = static_cast<size_t>(kept / arena.granule()); i < state_->granules.size(); ++i)
    arena.drop_granule(state_->granules[i]);
  state_->granules.resize(static_cast<size_t>(kept / arena.granule()));
}

void Arena::Range::discard(int64_t offset, int64_t bytes) {
  Arena::State& arena = *state_->arena;
  const int64_t granule = arena.granule();
  const int64_t first = round_up(offset, granule) / granule;
  const int64_t last =
      std::min((offset + bytes) / granule, static_cast<int64_t>(state_->granules.size()));
  for (int64_t i = first; i < last;) {  // runs of private memory go in one call
    const int64_t what = state_->granules[static_cast<size_t>(i)];
    int64_t end = i + 1;
    if (what == kDiscarded) {
      i = end;
      continue;
    }
    if (what == kPrivate) {
      while (end < last && state_->granules[static_cast<size_t>(end)] == kPrivate) ++end;
      madvise(state_->base + i * granule, static_cast<size_t>((end - i) * granule), MADV_DONTNEED);
    } else if (map_anonymous(state_->base + i * granule, granule, PROT_READ | PROT_WRITE,
                             MAP_FIXED) == nullptr) {
      system_failed("discarding", granule);
    }
    const std::lock_guard lock(arena.mutex);
    for (; i < end; ++i) {
      arena.drop_granule(state_->granules[static_cast<size_t>(i)]);
      state_->granules[static_cast<size_t>(i)] = kDiscarded;
    }
  }
}

int64_t Arena::Range::discarded(int64_t offset, int64_t bytes) const {
  const int64_t granule = state_->arena->granule();
  const int64_t last = std::min(round_up(offset + bytes, granule) / granule,
                                static_cast<int64_t>(state_->granules.size()));
  int64_t count = 0;
  for (int64_t i = offset / granule; i < last; ++i)
    count += state_->granules[static_cast<size_t>(i)] == kDiscarded;
  return count * granule;
}

void Arena::Range::reclaim(int64_t offset, int64_t bytes) {
  const int64_t wanted = discarded(offset, bytes);
  if (wanted == 0) return;
  Arena::State& arena = *state_->arena;
  const int64_t granule = arena.granule();
  const std::lock_guard lock(arena.mutex);
  arena.require_room(wanted);
  arena.committed += wanted;
  arena.mapped += wanted / granule;
  const int64_t last = std::min(round_up(offset + bytes, granule) / granule,
                                static_cast<int64_t>(state_->granules.size()));
  for (int64_t i = offset / granule; i < last; ++i) {
    int64_t& what = state_->granules[static_cast<size_t>(i)];
    if (what == kDiscarded) what = kPrivate;
  }
}

void Arena::Range::alias(Range& other, int64_t bytes) {
  Arena::State& arena = *state_->arena;
  const int64_t granule = arena.granule(), count = bytes / granule;
  KVLAB_REQUIRE(bytes % granule == 0 && bytes <= other.committed() && bytes <= reserved() &&
                    committed() == 0 && state_->arena == other.state_->arena && this != &other,
                "E_ALIGN", "arena: an alias of ", bytes, " bytes wants whole granules of ", granule,
                ", at most the ", other.committed(),
                " committed bytes of another range of the arena, in an empty range of as many");
  const std::lock_guard lock(arena.mutex);
  arena.ensure_file();
  std::vector<int64_t>& theirs = other.state_->granules;
  const auto run_end = [&](int64_t i, auto same) {
    while (i + 1 < count &&
           same(theirs[static_cast<size_t>(i)], theirs[static_cast<size_t>(i + 1)]))
      ++i;
    return i + 1;
  };
  for (int64_t i = 0, end = 0; i < count; i = end) {
    end = run_end(i, [](int64_t a, int64_t b) { return a == b; });
    if (theirs[static_cast<size_t>(i)] == kPrivate) arena.share(*other.state_, i, end);
  }
  for (int64_t i = 0, end = 0; i < count; i = end) {
    const int64_t what = theirs[static_cast<size_t>(i)];
    end = run_end(i, [](int64_t a, int64_t b) { return a < 0 ? a == b : b == a + 1; });
    u8* const at = state_->base + i * granule;
    const bool done = what == kDiscarded ? mprotect(at, static_cast<size_t>((end - i) * granule),
                                                    PROT_READ | PROT_WRITE) == 0
                                         : arena.map_file(at, what, end - i);
    if (!done) {
      const int cause = errno;
      map_anonymous(state_->base, bytes, PROT_NONE, MAP_FIXED);
      errno = cause;
      system_failed("mapping shared memory", bytes);
    }
  }
  for (int64_t i = 0; i < count; ++i)
    if (theirs[static_cast<size_t>(i)] >= 0)
      ++arena.mappings[static_cast<size_t>(theirs[static_cast<size_t>(i)])];
  state_->granules.assign(theirs.begin(), theirs.begin() + count);
}

void Arena::Range::make_private(int64_t offset) {
  Arena::State& arena = *state_->arena;
  const int64_t granule = arena.granule();
  KVLAB_CHECK(offset >= 0 && offset < committed());
  int64_t& what = state_->granules[static_cast<size_t>(offset / granule)];
  const std::lock_guard lock(arena.mutex);
  if (what < 0 || arena.mappings[static_cast<size_t>(what)] == 1) return;
  arena.require_room(granule);
  u8* const at = state_->base + offset / granule * granule;
  u8* const copy = map_anonymous(nullptr, granule, PROT_READ | PROT_WRITE, 0);
  if (copy == nullptr) system_failed("copying shared memory", granule);
  std::memcpy(copy, at, static_cast<size_t>(granule));
  // The copy takes the place at once: a reader never sees anything else.
  if (mremap(copy, static_cast<size_t>(granule), static_cast<size_t>(granule),
             MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED) {
    const int cause = errno;
    munmap(copy, static_cast<size_t>(granule));
    errno = cause;
    system_failed("copying shared memory", granule);
  }
  --arena.mappings[static_cast<size_t>(what)];
  what = kPrivate;
  arena.committed += granule;
  ++arena.mapped;
}

int Arena::Range::sharers(int64_t offset) const {
  const Arena::State& arena = *state_->arena;
  const auto i = static_cast<size_t>(offset / arena.granule());
  if (offset < 0 || i >= state_->granules.size()) return 0;
  const int64_t what = state_->granules[i];
  if (what < 0) return what == kPrivate ? 1 : 0;
  const std::lock_guard lock(arena.mutex);
  return arena.mappings[static_cast<size_t>(what)];
}

int64_t Arena::Range::identity(int64_t offset) const {
  const auto i = static_cast<size_t>(offset / state_->arena->granule());
  return i < state_->granules.size() ? std::max<int64_t>(state_->granules[i], -1) : -1;
}

}  // namespace kvlab
