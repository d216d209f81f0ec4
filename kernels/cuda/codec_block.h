#pragma once
// Encode and decode of rows as one block of threads does it, without a line that only a GPU can
// run: g++ compiles the same loops and walks block after block, thread after thread
// (KVLAB_EMULATE_CUDA, tests/kernels).
//
// Index map.  An item is one unit of one run; block b of n takes items b, b + n, ...  An item goes
// by in chunks of at most `chunk` rows (one tile, for codecs of tiles), a chunk in steps, and all
// threads meet after every step:
//
//   encode   load       a warp per row, a lane per feature          tensor -> floats
//            transform  a thread per 8, 4 or 2 numbers              floats in place, if rotated
//            code       a thread per (row, part); lanes take rows   floats -> bytes
//            store      a thread per word of a plane                bytes -> page
//   decode   value      a thread per 8 features of a row            page -> tensor, or -> floats
//   and
//            transform                                              back in place, and
//            store      as `load`                                   floats -> tensor
//
// `floats` and `bytes` (CodecWorkspace) lie in shared memory, or in device memory where a chunk is
// too large for it.  Global memory is read and written by consecutive lanes.
//
// Roofline.  Each number of the tensor and each stored byte crosses device memory once:
//   (dtype bytes + stored bytes per feature) * features / memory bandwidth.
// bfloat16 rows of 128 and int4 in groups of 32 are 2.625 bytes per feature: at 3.35 TB/s (H100)
// 1.28e12 features per second, 0.8 us for the keys of one layer of 8 heads and 1024 tokens.

#include "kernels/codec.h"
#include "kernels/cuda/codec_rows.h"

namespace kvlab::inline KVLAB_TARGET {

inline constexpr int kWarp = 32;

#ifdef KVLAB_EMULATE_CUDA
/// Threads of a step run one after another; a result that depends on their order is a race.
inline bool emulated_order_is_reversed = false;
#endif

/// Runs `work.step(step, thread)` for every thread of the block; none goes on before all are there.
template <class Work>
KVLAB_HD void all_threads(const Work& work, int step) {
#ifdef __CUDA_ARCH__
  work.step(step, static_cast<int>(threadIdx.x));
  __syncthreads();
#elif defined(KVLAB_EMULATE_CUDA)
  for (int i = 0; i < kCodecThreads; ++i)
    work.step(step, emulated_order_is_reversed ? kCodecThreads - 1 - i : i);
#else
  (void)work, (void)step;
#endif
}

KVLAB_HD void add_to(uint64_t* sum, uint64_t n) {
#ifdef __CUDA_ARCH__
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(n));
#else
  *sum += n;
#endif
}

KVLAB_HD int smaller(int a, int b) { return a < b ? a : b; }

// --- the tensor --------------------------------------------------------------------------------

template <int W>
KVLAB_HD F<W> load_row(const CodecRows& a, int64_t element) {
  if (a.dtype == RowDtype::f16) return load_f16<W>(a.rows + 2 * element);
  if (a.dtype == RowDtype::bf16) return load_bf16<W>(a.rows + 2 * element);
  return load_f32<W>(a.rows + 4 * element);
}
template <int W>
KVLAB_HD void store_row(const CodecRows& a, int64_t element, const F<W>& v) {
  if (a.dtype == RowDtype::f16) return store_f16<W>(a.rows + 2 * element, v);
  if (a.dtype == RowDtype::bf16) return store_bf16<W>(a.rows + 2 * element, v);
  store_f32<W>(a.rows + 4 * element, v);
}

// --- the rotation, kernels/hadamard.h ------------------------------------------------------------

/// Where feature c of a row stands in its rotation: block c % blocks, element c / blocks.
KVLAB_HD int rotated_place(const CodecRows& a, int c) {
  if (a.hadamard_block == 0 || a.hadamard_block == a.width) return c;
  const int blocks = a.width / a.hadamard_block;
  return c % blocks * a.hadamard_block + c / blocks;
}

/// Three levels a step.
KVLAB_HD int rotation_steps(const CodecRows& a) {
  int levels = 0;
  while (a.hadamard_block >> (levels + 1) != 0) ++levels;
  return (levels + 2) / 3;
}

/// log2(K) levels from h on, in registers: the same sums and differences in the same order as on
/// the CPU, where each level is one pass.
template <int K>
KVLAB_HD void rotate_some(float* y, int h, float scale) {
  float v[K];
  for (int m = 0; m < K; ++m) v[m] = y[m * h];
  for (int s = 1; s < K; s *= 2)
    for (int m = 0; m < K; ++m)
      if ((m & s) == 0) {
        const float x = v[m], z = v[m + s];
        v[m] = Rn::add(x, z);
        v[m + s] = Rn::sub(x, z);
      }
  for (int m = 0; m < K; ++m) y[m * h] = Rn::mul(v[m], scale);
}

template <int K>
KVLAB_HD void rotate_levels(const CodecRows& a, float* floats, int rows, int h, int thread) {
  const int each = a.width / K, stride = CodecWorkspace::float_stride(a);
  const float scale = h * K == a.hadamard_block ? a.hadamard_scale : 1.0f;
  for (int i = thread; i < rows * each; i += kCodecThreads) {
    const int j = i % each;
    rotate_some<K>(floats + int64_t{i / each} * stride + j / h * (h * K) + j % h, h, scale);
  }
}

KVLAB_HD void rotate_step(const CodecRows& a, float* floats, int rows, int step, int thread) {
  const int h = 1 << (3 * step), left = a.hadamard_block / h;
  if (left >= 8)
    rotate_levels<8>(a, floats, rows, h, thread);
  else if (left == 4)
    rotate_levels<4>(a, floats, rows, h, thread);
  else
    rotate_levels<2>(a, floats, rows, h, thread);
}

// --- one chunk of one item ---------------------------------------------------------------------

/// Rows [first, first + rows) of a run, in one unit.
struct CodecChunk {
  const CodecRows& a;
  RowRun run;
  int unit, first, rows;
  CodecWorkspace workspace;

  KVLAB_HD int64_t element(int row, int c) const {
    return a.row_index[run.first + first + row] * a.row_stride +
           int64_t{run.first_unit + unit} * a.unit_stride + c;
  }
  /// A plane's bytes from slot `slot` of the page on, of its tile where the plane goes by tile.
  KVLAB_HD u8* plane_at(int i, int slot) const {
    const PagePlane& plane = a.plane[i];
    return run.page + plane.offset + unit * plane.unit_stride +
           (plane.row_bytes == 0 ? int64_t{slot >> a.tile_log2} * plane.tile_bytes
                                 : int64_t{slot} * plane.row_bytes);
  }
  /// All features of all rows, a lane per feature.
  template <bool kToFloats>
  KVLAB_HD void convert(int thread) const {
    const int stride = CodecWorkspace::float_stride(a);
    for (int r = thread / kWarp; r < rows; r += kCodecThreads / kWarp) {
      float* floats = workspace.floats() + int64_t{r} * stride;
      for (int c = thread % kWarp; c < a.width; c += kWarp) {
        float* at = floats + rotated_place(a, c);
        if constexpr (kToFloats)
          *at = load_row<1>(a, element(r, c))[0];
        else
          store_row<1>(a, element(r, c), splat<1>(*at));
      }
    }
  }
};

template <class C>
struct EncodeChunk : CodecChunk {
  using Params = typename C::Params;

  KVLAB_HD static int steps(const CodecRows& a) { return 3 + rotation_steps(a); }

  KVLAB_HD void step(int step, int thread) const {
    const int last = steps(a) - 1;
    if (step == 0)
      convert<true>(thread);
    else if (step == last)
      store(thread);
    else if (step == last - 1)
      code(thread);
    else
      rotate_step(a, workspace.floats(), rows, step - 1, thread);
  }

 private:
  KVLAB_HD void code(int thread) const {
    const Params& p = *reinterpret_cast<const Params*>(a.params);
    const FloatRows from{workspace.floats(), CodecWorkspace::float_stride(a)};
    const MutableTile to = workspace.tile(a);
    const int rows_each = a.tile_log2 == 0 ? rows : 1;  // a tile is coded as one
    uint64_t refused = 0;
    for (int i = thread; i < rows_each * C::parts(p); i += kCodecThreads)
      refused += C::encode(p, from, to, i % rows_each, i / rows_each) ? 0 : 1;
    if (refused != 0 && a.refused != nullptr) add_to(a.refused, refused);
  }

  KVLAB_HD void store(int thread) const {
    const MutableTile from = workspace.tile(a);
    for (int i = 0; i < a.planes; ++i) {
      const PagePlane& plane = a.plane[i];
      const int bytes = plane.row_bytes == 0 ? plane.tile_bytes : plane.row_bytes;
      const int count = plane.row_bytes == 0 ? 1 : rows;
      u8* to = plane_at(i, run.slot + first);
      if (bytes % 4 == 0)
        copy<uint32_t>(from.plane[i], from.stride[i], to, bytes, count, thread);
      else if (bytes % 2 == 0)
        copy<uint16_t>(from.plane[i], from.stride[i], to, bytes, count, thread);
      else
        copy<u8>(from.plane[i], from.stride[i], to, bytes, count, thread);
    }
  }

  /// `count` rows of `bytes` bytes, one after another at `to`.
  template <class Word>
  KVLAB_HD static void copy(const u8* from, int64_t stride, u8* to, int bytes, int count,
                            int thread) {
    const int words = bytes / static_cast<int>(sizeof(Word));
    for (int i = thread; i < words * count; i += kCodecThreads)
      store_as(to + int64_t{i} * sizeof(Word),
               load_as<Word>(from + i / words * stride + i % words * sizeof(Word)));
  }
};

template <class C>
struct DecodeChunk : CodecChunk {
  using Params = typename C::Params;
  static_assert(C::kMajor == Major::token,
                "the decode kernel gives a thread 8 features of a row; a channel-major codec needs "
                "a kernel that gives it 8 rows of a feature");

  KVLAB_HD static int steps(const CodecRows& a) {
    return a.hadamard_block == 0 ? 1 : 2 + rotation_steps(a);
  }

  KVLAB_HD void step(int step, int thread) const {
    if (step == 0)
      value(thread);
    else if (step == steps(a) - 1)
      convert<false>(thread);
    else
      rotate_step(a, workspace.floats(), rows, step - 1, thread);
  }

 private:
  KVLAB_HD void value(int thread) const {
    const int each = (a.width + 7) / 8, across = smaller(each, kCodecThreads);
    const int down = kCodecThreads / across;
    if (thread / across >= down) return;
    for (int row = thread / across; row < rows; row += down) {
      const int slot = run.slot + first + row;
      const int in_tile = slot & ((1 << a.tile_log2) - 1);
      const Tile from = tile_from(slot - in_tile);
      for (int i = thread % across; i < each; i += across) {
        if (8 * i + 8 <= a.width)
          put<8>(from, in_tile, row, 8 * i);
        else
          for (int c = 8 * i; c < a.width; ++c) put<1>(from, in_tile, row, c);
      }
    }
  }

  KVLAB_HD Tile tile_from(int slot) const {
    Tile tile{};
    KVLAB_UNROLL
    for (int i = 0; i < kMaxPlanes; ++i) {
      tile.plane[i] = plane_at(i, slot);
      tile.stride[i] = a.plane[i].row_bytes;
    }
    tile.rows = 1 << a.tile_log2;
    return tile;
  }

  template <int W>
  KVLAB_HD void put(const Tile& from, int in_tile, int row, int c) const {
    const Params& p = *reinterpret_cast<const Params*>(a.params);
    const F<W> x = C::template decode<W>(p, from, in_tile, c, typename C::State{});
    if (a.hadamard_block == 0)
      store_row<W>(a, element(row, c), x);
    else
      store_f32<W>(workspace.floats() + int64_t{row} * CodecWorkspace::float_stride(a) + c, x);
  }
};

/// All of a block's work.  `chunk`: rows of a chunk, a tile for codecs of tiles.
template <class Chunk>
KVLAB_HD void run_codec_block(const CodecRows& a, int chunk, int64_t block, int64_t blocks,
                              u8* workspace) {
  for (int64_t item = block; item < a.run_count * a.units; item += blocks) {
    const RowRun run = a.runs[item / a.units];
    const int unit = static_cast<int>(item % a.units), steps = Chunk::steps(a);
    for (int first = 0; first < run.rows; first += chunk) {
      const int rows = smaller(chunk, run.rows - first);
      const Chunk work{{a, run, unit, first, rows, {workspace, rows}}};
      for (int step = 0; step < steps; ++step) all_threads(work, step);
    }
  }
}

}  // namespace kvlab::inline KVLAB_TARGET
