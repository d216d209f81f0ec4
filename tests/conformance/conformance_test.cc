// The laws every method and every legal pair obeys on the real engine, whatever it stores.  A
// method is tried by being registered.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/error.h"
#include "tests/conformance/subjects.h"
#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab::test {
namespace {

/// The same sums in another order: float32 dot products of 64 and softmax sums of 40 terms, on
/// values of a few units.
constexpr float kReordered = 3e-5F;

/// Largest difference over positions [first, last) of all layers.
float apart(const Network& network, const Outputs& a, const Outputs& b, Range positions) {
  float most = 0;
  for (size_t l = 0; l < a.size(); ++l) {
    const Layer& layer = network.shape().layers[l];
    const int64_t width = int64_t{layer.num_heads} * layer.value_dim;
    for (int64_t i = positions.first * width; i < positions.last * width; ++i) {
      const float difference =
          std::abs(a[l][static_cast<size_t>(i)] - b[l][static_cast<size_t>(i)]);
      if (!(difference <= most)) most = difference;  // NaN counts
    }
  }
  return most;
}

/// One sequence in a cache, and its outputs so far.
struct Reading {
  Reading(const Network& text, const Json& spec, ReadPolicy policy, int threads = 0)
      : network(&text),
        cache(make_cache(text, registry(), spec, kFixed, threads)),
        sequence(cache->add_sequence()),
        read(policy) {}
  Reading(const Reading& parent, const Network& text)
      : network(&text),
        cache(parent.cache),
        sequence(cache->fork(parent.sequence)),
        read(parent.read),
        out(parent.out) {}

  /// In passes of these lengths; the last number is repeated until `last` tokens are in.
  Reading& feed(int64_t last, const std::vector<int64_t>& lengths = {1}) {
    for (size_t i = 0; seen < last; ++i) {
      const int64_t most = lengths[std::min(i, lengths.size() - 1)];
      const int64_t n = std::min(most, last - seen);
      network->pass(*cache, sequence, {seen, seen + n}, read,
                    n > 1 ? ChunkEnd::prompt : ChunkEnd::step, out);
      seen += n;
    }
    return *this;
  }

  const Network* network;
  std::shared_ptr<Cache> cache;
  SeqId sequence;
  ReadPolicy read;
  Outputs out{};
  int64_t seen = 0;
};

class Conformance : public testing::TestWithParam<Subject> {
 protected:
  Composition composition() const {
    return check_composition(parse_methods(GetParam().spec, registry()), network_.shape(),
                             registry());
  }
  Capabilities capabilities() const { return composition().capabilities; }
  bool may_read(ReadPolicy policy) const {
    const Composition made = composition();
    return error_of([&] { check_read_policy(made, policy); }) == "no error";
  }
  /// What a token-by-token run reads, in passes of any length.
  ReadPolicy policy() const {
    return may_read(ReadPolicy::masked)   ? ReadPolicy::masked
           : may_read(ReadPolicy::stored) ? ReadPolicy::stored
                                          : ReadPolicy::raw_chunk;
  }
  /// Whether what a list holds is ranked at the end of passes, so that where they end matters.
  bool ranks() const {
    return std::ranges::any_of(composition().selects, [](const auto& select) {
      return select->due(ChunkEnd::chunk) || select->due(ChunkEnd::prompt) ||
             select->due(ChunkEnd::step);
    });
  }
  Reading reading() const { return {network_, GetParam().spec, policy()}; }
  float apart(const Outputs& a, const Outputs& b, Range positions = {0, kTokens}) const {
    return test::apart(network_, a, b, positions);
  }

  const Network network_{network_config()};
};

TEST_P(Conformance, WhatSaysItIsExactReadsAsTheDenseCacheBitForBit) {
  if (!capabilities().exact) return;
  for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{kTokens}, {1}, {7, 1, 20, 3}})
    EXPECT_EQ(reading().feed(kTokens, lengths).out,
              Reading(network_, "dense", policy()).feed(kTokens, lengths).out);
}

TEST_P(Conformance, NoQueryReadsTokensAfterIt) {
  if (!capabilities().causal_write) return;
  constexpr int64_t kDiffers = 23;
  NetworkConfig other = network_config();
  other.differs_from = kDiffers;
  const Network changed(other);
  const Reading mine = reading().feed(kTokens, {kTokens});
  const Reading theirs = Reading(changed, GetParam().spec, policy()).feed(kTokens, {kTokens});
  EXPECT_EQ(apart(mine.out, theirs.out, {0, kDiffers}), 0);
  EXPECT_GT(apart(mine.out, theirs.out, {kDiffers, kTokens}), 0.1F) << "nothing was read at all";
}

TEST_P(Conformance, QueryHeadsOfAKvHeadAreAlike) {
  NetworkConfig other = network_config();
  other.reverses_heads = true;
  const Network reversed(other);
  const Reading mine = reading().feed(kTokens, {11});
  const Reading theirs = Reading(reversed, GetParam().spec, policy()).feed(kTokens, {11});
  const Layer& layer = network_.shape().layers[0];
  const int group = layer.num_heads / layer.num_kv_heads, dv = layer.value_dim;
  float most = 0;
  for (size_t l = 0; l < mine.out.size(); ++l)
    for (int64_t i = 0; i < kTokens * layer.num_kv_heads; ++i)
      for (int h = 0; h < group; ++h)
        for (int c = 0; c < dv; ++c)
          most = std::max(
              most,
              std::abs(mine.out[l][static_cast<size_t>((i * group + h) * dv + c)] -
                       theirs.out[l][static_cast<size_t>((i * group + group - 1 - h) * dv + c)]));
  EXPECT_LE(most, kReordered);
}

TEST_P(Conformance, ABatchIsItsSequencesAlone) {
  const Network a(network_config(5)), b(network_config(6)), c(network_config(7));
  const std::shared_ptr<Cache> cache = make_cache(a, registry(), GetParam().spec, kFixed);
  Outputs out[3];
  const SeqId ids[] = {cache->add_sequence(), cache->add_sequence(), cache->add_sequence()};
  const auto together = [&](Range of_a, Range of_b, Range of_c, ChunkEnd end) {
    pass(*cache,
         {{&a, ids[0], of_a, &out[0]}, {&b, ids[1], of_b, &out[1]}, {&c, ids[2], of_c, &out[2]}},
         policy(), end);
  };
  together({0, 30}, {0, 2}, {0, 17}, ChunkEnd::prompt);
  together({30, 31}, {2, 9}, {17, 18}, ChunkEnd::prompt);
  for (int64_t i = 0; i < 9; ++i)
    together({31 + i, 32 + i}, {9 + i, 10 + i}, {18 + i, 19 + i}, ChunkEnd::step);
  const auto alone = [&](const Network& network, const std::vector<int64_t>& lengths,
                         int64_t last) {
    return Reading(network, GetParam().spec, policy()).feed(last, lengths).out;
  };
  EXPECT_LE(test::apart(a, out[0], alone(a, {30, 1}, 40), {0, 40}), kReordered);
  EXPECT_LE(test::apart(b, out[1], alone(b, {2, 7, 1}, 18), {0, 18}), kReordered);
  EXPECT_LE(test::apart(c, out[2], alone(c, {17, 1}, 27), {0, 27}), kReordered);
}

TEST_P(Conformance, HowATextIsCutDoesNotMatterWhereTheStoredFormIsRead) {
  if (ranks()) return;
  for (const ReadPolicy read : {ReadPolicy::stored, ReadPolicy::masked}) {
    if (!may_read(read)) continue;
    const Reading single = Reading(network_, GetParam().spec, read).feed(kTokens);
    for (const std::vector<int64_t>& lengths :
         {std::vector<int64_t>{kTokens}, {13, 1, 1, 9}, {2, 32, 3}}) {
      const Reading cut = Reading(network_, GetParam().spec, read).feed(kTokens, lengths);
      EXPECT_LE(apart(single.out, cut.out), kReordered)
          << name_of(read) << ", first pass of " << lengths[0];
      // Rows that died wait for their page or for compaction, and that happens between passes.
      if (!composition().selects.empty()) continue;
      EXPECT_EQ(single.cache->bytes().cache_bytes(), cut.cache->bytes().cache_bytes());
    }
  }
}

TEST_P(Conformance, AForkReadsAsItsParentAndNeitherDisturbsTheOther) {
  NetworkConfig other = network_config();
  other.differs_from = 20;
  const Network changed(other);
  const Reading whole = reading().feed(20, {20}).feed(kTokens);
  Reading parent = reading().feed(20, {20});
  Reading child(parent, network_), stray(parent, changed);
  child.seen = stray.seen = 20;
  stray.feed(kTokens);
  child.feed(30);
  parent.feed(kTokens);
  child.feed(kTokens);
  EXPECT_EQ(apart(whole.out, parent.out), 0);
  EXPECT_EQ(apart(whole.out, child.out), 0);
  const Reading alone = Reading(changed, GetParam().spec, policy()).feed(20, {20}).feed(kTokens);
  EXPECT_EQ(apart(alone.out, stray.out), 0);
}

TEST_P(Conformance, TruncateIsExactOrRefused) {
  for (const int64_t n : {29, 17, 1, 0}) {
    const Reading never = reading().feed(n).feed(kTokens);
    Reading cut = reading().feed(n).feed(30, {4});
    const std::string refusal = error_of([&] { cut.cache->truncate(cut.sequence, n); });
    if (refusal == "no error") {
      EXPECT_TRUE(capabilities().truncatable);
      cut.seen = n;
      cut.feed(kTokens);
      EXPECT_LE(apart(never.out, cut.out), kReordered) << "to " << n;
    } else {
      EXPECT_THAT(refusal, testing::StartsWith("E_TRUNCATE: "));
      EXPECT_EQ(cut.cache->tokens_seen(cut.sequence), 30);
      cut.feed(kTokens);
      const Reading uncut = reading().feed(n).feed(30, {4}).feed(kTokens);
      EXPECT_EQ(apart(uncut.out, cut.out), 0) << "a refusal left something changed";
    }
  }
}

TEST_P(Conformance, ALoadedSequenceGoesOnAsTheSavedOne) {
  const Scratch scratch;
  Reading saved = reading().feed(23, {20, 1});
  saved.cache->save(saved.sequence, scratch / "sequence");
  Reading loaded = reading();
  loaded.cache->drop(loaded.sequence);
  loaded.sequence = loaded.cache->load(scratch / "sequence");
  loaded.seen = 23;
  loaded.out = saved.out;
  // Rows that had died stay behind: the others lie in other slots, and sums are cut elsewhere.
  EXPECT_LE(loaded.cache->bytes().cache_bytes(), saved.cache->bytes().cache_bytes());
  EXPECT_LE(apart(saved.feed(kTokens).out, loaded.feed(kTokens).out), kReordered);
}

TEST_P(Conformance, ACancelledPassNeverWas) {
  const Reading whole = reading().feed(20, {20}).feed(kTokens);
  Reading cancelled = reading().feed(20, {20});
  const Bytes before = cancelled.cache->bytes();
  const std::vector<int32_t> positions{20, 21, 22}, indptr{0, 3}, ids{1, 2, 3};
  cancelled.cache->begin_chunk({.rows = {{&cancelled.sequence, 1}, indptr, positions},
                                .token_ids = ids,
                                .read = cancelled.read});
  cancelled.cache->cancel_chunk();
  EXPECT_EQ(cancelled.cache->bytes().cache_bytes(), before.cache_bytes());
  cancelled.feed(kTokens);
  EXPECT_EQ(apart(whole.out, cancelled.out), 0);
}

TEST_P(Conformance, BytesComeFromTheAllocatorAndGoBackToIt) {
  Reading one = reading().feed(kTokens, {13, 1});
  const Bytes bytes = one.cache->bytes();
  EXPECT_GT(bytes.payload, 0);
  EXPECT_GE(bytes.slack(), 0);
  EXPECT_LE(bytes.residual, bytes.payload);
  Bytes sum;
  for (int l = 0; l < std::ssize(network_.shape().layers); ++l) {
    const Bytes layer = one.cache->bytes(l);
    sum.payload += layer.payload;
    sum.metadata += layer.metadata;
    sum.residual += layer.residual;
  }
  EXPECT_EQ(sum.payload, bytes.payload);
  EXPECT_EQ(sum.metadata, bytes.metadata);
  EXPECT_EQ(sum.residual, bytes.residual);
  one.cache->drop(one.sequence);
  EXPECT_EQ(one.cache->bytes().cache_bytes(), 0);
}

TEST_P(Conformance, TheFixedSplitGivesTheSameBitsForAnyNumberOfThreads) {
  if (!capabilities().deterministic) return;
  const auto with = [&](int threads) {
    return Reading(network_, GetParam().spec, policy(), threads).feed(kTokens, {17, 1}).out;
  };
  const Outputs one = with(1);
  EXPECT_EQ(one, with(1));
  EXPECT_EQ(one, with(2));
  EXPECT_EQ(one, with(3));
}

INSTANTIATE_TEST_SUITE_P(Methods, Conformance, testing::ValuesIn(single_subjects()),
                         name_of_subject);
INSTANTIATE_TEST_SUITE_P(Pairs, Conformance, testing::ValuesIn(pair_subjects()), name_of_subject);

}  // namespace
}  // namespace kvlab::test
