#pragma once
// Memory of one worker: taken in order, given back all at once, kept between calls.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/types.h"

namespace kvlab {

class Scratch {
 public:
  /// `count` uninitialised numbers, aligned to 64 bytes, with 64 readable bytes behind them.
  template <class T>
  T* take(int64_t count) {
    return reinterpret_cast<T*>(take_bytes(count * int64_t{sizeof(T)} + 64));
  }

  /// Gives back what was taken since it was made.
  class Mark {
   public:
    explicit Mark(Scratch& scratch)
        : scratch_(scratch), block_(scratch.block_), used_(scratch.used_) {}
    ~Mark() {
      scratch_.block_ = block_;
      scratch_.used_ = used_;
    }
    Mark(const Mark&) = delete;
    Mark& operator=(const Mark&) = delete;

   private:
    Scratch& scratch_;
    size_t block_;
    int64_t used_;
  };

  int64_t bytes() const {
    int64_t total = 0;
    for (const Block& block : blocks_) total += block.bytes;
    return total;
  }

  /// For tests: everything that is not in use is overwritten with `byte`.
  void poison(u8 byte) {
    for (Block& block : blocks_) std::fill_n(block.data, block.bytes, byte);
  }

 private:
  struct Block {
    std::unique_ptr<u8[]> memory;
    u8* data = nullptr;  // aligned
    int64_t bytes = 0;
  };

  u8* take_bytes(int64_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes) ++block_, used_ = 0;
    if (block_ == blocks_.size()) {
      Block block;
      block.bytes = std::max<int64_t>(bytes, int64_t{1} << 18);
      block.memory = std::make_unique_for_overwrite<u8[]>(static_cast<size_t>(block.bytes) + 64);
      const auto address = reinterpret_cast<uintptr_t>(block.memory.get());
      block.data = block.memory.get() + (64 - address % 64) % 64;
      blocks_.push_back(std::move(block));
      used_ = 0;
    }
    u8* at = blocks_[block_].data + used_;
    used_ += bytes;
    return at;
  }

  std::vector<Block> blocks_{};
  size_t block_ = 0;
  int64_t used_ = 0;
};

}  // namespace kvlab
