#include "eval/sha256.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <bit>
#include <cstring>
#include <fstream>
#include <vector>

#include "core/error.h"

namespace kvlab {
namespace {

constexpr std::array<uint32_t, 64> kRounds = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t big_endian(const u8* at) {
  return static_cast<uint32_t>(at[0]) << 24 | static_cast<uint32_t>(at[1]) << 16 |
         static_cast<uint32_t>(at[2]) << 8 | at[3];
}

void compress_plain(uint32_t* state, const u8* data, size_t blocks) {
  using std::rotr;
  for (; blocks > 0; --blocks, data += 64) {
    uint32_t w[64];
    for (int i = 0; i < 16; ++i) w[i] = big_endian(data + 4 * i);
    for (int i = 16; i < 64; ++i) {
      const uint32_t s0 = rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const uint32_t s1 = rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; ++i) {
      const uint32_t t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) +
                          kRounds[static_cast<size_t>(i)] + w[i];
      const uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

#if defined(__x86_64__)
// The processor's own rounds: 1.3 GB/s where the loop above reaches 0.3, which a 15 GB model shows.
__attribute__((target("sha,sse4.1"))) void compress_sha_ni(uint32_t* state, const u8* data,
                                                           size_t blocks) {
  const auto load = [](const void* at) __attribute__((target("sha,sse4.1"))) {
    return _mm_loadu_si128(static_cast<const __m128i*>(at));
  };
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  // The instructions want the state as (a b e f) and (c d g h).
  const __m128i dcba = _mm_shuffle_epi32(load(state), 0xb1);
  const __m128i hgfe = _mm_shuffle_epi32(load(state + 4), 0x1b);
  __m128i abef = _mm_alignr_epi8(dcba, hgfe, 8);
  __m128i cdgh = _mm_blend_epi16(hgfe, dcba, 0xf0);
  for (; blocks > 0; --blocks, data += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[4];
    for (int i = 0; i < 4; ++i) w[i] = _mm_shuffle_epi8(load(data + 16 * i), swap);
    for (int i = 0; i < 16; ++i) {
      __m128i x = _mm_add_epi32(w[i % 4], load(kRounds.data() + 4 * i));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, x);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(x, 0x0e));
      if (i >= 12) continue;
      // w[t] = s1(w[t-2]) + w[t-7] + s0(w[t-15]) + w[t-16], four at a time
      x = _mm_add_epi32(_mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]),
                        _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4));
      w[i % 4] = _mm_sha256msg2_epu32(x, w[(i + 3) % 4]);
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
  const __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

bool has_sha_ni() {
  uint32_t eax = 7, ebx = 0, ecx = 0, edx = 0;  // the compiler's own test does not know "sha"
  __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return (ebx >> 29 & 1) != 0 && __builtin_cpu_supports("sse4.1");
}
#endif

void compress(Sha256::Rounds rounds, uint32_t* state, const u8* data, size_t blocks) {
#if defined(__x86_64__)
  static const bool fast = has_sha_ni();
  if (fast && rounds == Sha256::Rounds::fastest) return compress_sha_ni(state, data, blocks);
#endif
  static_cast<void>(rounds);
  compress_plain(state, data, blocks);
}

}  // namespace

void Sha256::update(std::span<const u8> bytes) {
  bytes_ += bytes.size();
  if (filled_ > 0) {
    const size_t taken = std::min(bytes.size(), block_.size() - filled_);
    std::memcpy(block_.data() + filled_, bytes.data(), taken);
    filled_ += taken;
    bytes = bytes.subspan(taken);
    if (filled_ < block_.size()) return;
    compress(rounds_, state_.data(), block_.data(), 1);
    filled_ = 0;
  }
  compress(rounds_, state_.data(), bytes.data(), bytes.size() / block_.size());
  const auto rest = bytes.last(bytes.size() % block_.size());
  if (!rest.empty()) std::memcpy(block_.data(), rest.data(), rest.size());
  filled_ = rest.size();
}

std::string Sha256::hex() {
  const uint64_t bits = bytes_ * 8;
  const size_t padding = (filled_ < 56 ? 56 : 120) - filled_;
  std::array<u8, 72> tail{0x80};
  for (size_t i = 0; i < 8; ++i) tail[padding + i] = static_cast<u8>(bits >> (56 - 8 * i));
  update(std::span<const u8>(tail).first(padding + 8));
  std::string text;
  for (const uint32_t word : state_) {
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  }
  return text;
}

std::string sha256_hex(std::string_view text) {
  Sha256 digest;
  digest.update({reinterpret_cast<const u8*>(text.data()), text.size()});
  return digest.hex();
}

FileDigest digest_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  KVLAB_REQUIRE(file, "E_FILE", path.string(), ": cannot be read: ", std::strerror(errno));
  Sha256 digest;
  std::vector<char> buffer(1 << 20);
  int64_t bytes = 0;
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), file.gcount() > 0) {
    bytes += file.gcount();
    digest.update({reinterpret_cast<const u8*>(buffer.data()), static_cast<size_t>(file.gcount())});
  }
  KVLAB_REQUIRE(!file.bad(), "E_FILE", path.string(), ": reading failed after ", bytes, " bytes");
  return {digest.hex(), bytes};
}

}  // namespace kvlab
