#pragma once
// A fast fingerprint of bytes: XXH3, 128 bits.  Not for secrets.

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/types.h"

namespace kvlab {

class Digest {
 public:
  Digest();
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  Digest& add(std::span<const u8> bytes);
  /// The length goes in too, so that "ab" "c" and "a" "bc" differ.
  Digest& add(std::string_view text);
  std::string hex() const;  // 32 digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kvlab
