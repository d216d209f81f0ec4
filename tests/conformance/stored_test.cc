// What every method and legal pair stores: its bytes by the formula of its own layout and codecs,
// rows that materialise as attention reads them, ranges that go from cache to cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/types.h"
#include "tests/conformance/subjects.h"
#include "tests/support/error.h"

namespace kvlab::test {
namespace {

class Stored : public testing::TestWithParam<Subject> {
 protected:
  Composition composition() const {
    return compose(parse_methods(GetParam().spec, registry()), network_.shape(), registry(),
                   network_.access().get(), Dtype::f32);
  }
  bool drops() const {
    const Composition made = composition();
    for (const auto& select : made.selects)
      for (int l = 0; l < std::ssize(network_.shape().layers); ++l)
        if (select->selection(l).drops) return true;
    return false;
  }
  std::unique_ptr<Cache> cache() const {
    return make_cache(network_, registry(), GetParam().spec, kFixed);
  }
  void feed(Cache& cache, SeqId id, Range positions, Outputs& out) const {
    const bool masks =
        error_of([&] { check_read_policy(cache.composition(), ReadPolicy::masked); }) == "no error";
    const ReadPolicy read = masks ? ReadPolicy::masked : ReadPolicy::raw_chunk;
    network_.pass(cache, id, positions, read,
                  positions.size() > 1 ? ChunkEnd::prompt : ChunkEnd::step, out);
  }

  const Network network_{network_config(3)};
};

// ---- bytes ----

/// Payload of `rows` rows (whole tiles) of one stream of one codec; nullptr: float32 as it came.
struct Format {
  Encoded encoded{};
  int64_t payload(int units, int64_t rows) const {
    return units * rows / encoded.tile_tokens * encoded.payload_bytes_per_tile();
  }
};

/// codec empty: rows as they came.
Format format_of(const std::string& codec, const std::string& params, const StreamSpec& stream) {
  const int width = stream.width;
  if (codec.empty()) {
    const Dtype came = stream.dtype.value_or(Dtype::f32);
    return {{.planes = {{.row_bytes = static_cast<int>(size_of(came)) * width}}, .exact = {came}}};
  }
  const Json given = params.empty() ? Json::object() : parse_json(params, "codec");
  return {
      registry().codec(codec).layout(width, registry().codec_schema(codec).complete(given, codec))};
}

/// By core/README.md: `first` rows as they came, then whole tiles of what is old enough, then rows
/// as they came.
int64_t payload_of(const Composition& made, const ModelShape& shape, int layer, int64_t tokens) {
  const Layer& site = shape.layers[at(layer)];
  Layout layout = made.project ? made.project->layout(layer) : Layout{};
  if (layout.rows_of >= 0) return 0;
  if (layout.streams.empty()) layout = dense_layout(site, made.capabilities.unrotated_keys);
  struct Form {
    int units;
    Format fresh, aged;
    bool listed;
  };
  std::vector<Form> forms;
  int tile = 1;
  bool lossy = false, encodes = false;
  for (const StreamSpec& stream : layout.streams) {
    const bool chosen = made.encode && stream.attended;
    Encoding encoding;
    if (stream.encoding) encoding = *stream.encoding;
    if (!stream.encoding && chosen) encoding = made.encode->stream(layer, stream);
    Form form{stream.units, format_of(chosen ? made.encode->recent_codec : "", "", stream),
              format_of(encoding.codec, encoding.params, stream), stream.follows_list};
    tile = std::max(tile, form.aged.encoded.tile_tokens);
    if (stream.attended) {
      const Dtype came = stream.dtype.value_or(Dtype::f32);
      lossy |= !form.fresh.encoded.is_exact_for(came) || !form.aged.encoded.is_exact_for(came);
      encodes |= !encoding.codec.empty();
    }
    forms.push_back(std::move(form));
  }
  const int64_t lag = lossy && made.encode && !layout.encode_at_append ? made.encode->recent : 0;
  const int64_t first = encodes && made.encode ? std::min(made.encode->first, tokens) : 0;
  const int64_t past = std::max<int64_t>(tokens - lag - first, 0) / tile * tile;
  int64_t bytes = 0;
  for (const Form& form : forms)
    bytes += form.listed ? form.aged.payload(form.units, past) +
                               form.fresh.payload(form.units, tokens - past)
                         : form.aged.payload(form.units, tokens);
  return bytes;
}

TEST_P(Stored, BytesAreTheFormulaOfItsLayoutAndCodecs) {
  const Composition made = composition();
  const std::unique_ptr<Cache> cache = this->cache();
  const SeqId id = cache->add_sequence();
  Outputs out;
  for (int64_t n = 0; n < kTokens;) {
    const int64_t more = std::min<int64_t>(n % 2 == 0 ? 1 : 9, kTokens - n);
    feed(*cache, id, {n, n + more}, out);
    n += more;
    for (int l = 0; l < std::ssize(network_.shape().layers); ++l) {
      const int64_t formula = payload_of(made, network_.shape(), l, n);
      SCOPED_TRACE(testing::Message() << "layer " << l << " of " << n << " tokens");
      if (drops()) {
        EXPECT_LE(cache->bytes(l).payload, formula);
      } else {
        EXPECT_EQ(cache->bytes(l).payload, formula);
      }
    }
    const Bytes bytes = cache->bytes();
    EXPECT_GE(bytes.slack(), 0);
  }
}

// ---- numbers ----

void rotate(const Rope& rope, int64_t position, double* x) {
  const int pairs = rope ? rope.rotary_dim / 2 : 0;
  for (int c = 0; c < pairs; ++c) {
    double& a = x[rope.style == Rope::Style::half_split ? c : 2 * c];
    double& b = x[rope.style == Rope::Style::half_split ? c + pairs : 2 * c + 1];
    const double angle = static_cast<double>(position) * rope.inv_freq[at(c)];
    const double u = a;
    a = u * std::cos(angle) - b * std::sin(angle);
    b = u * std::sin(angle) + b * std::cos(angle);
  }
}

TEST_P(Stored, AttentionReadsTheRowsThatMaterialise) {
  const Composition made = composition();
  if (!made.selects.empty()) return;  // which rows a query reads is the selector's own test
  const std::unique_ptr<Cache> cache = this->cache();
  const SeqId id = cache->add_sequence();
  Outputs out;
  feed(*cache, id, {0, kTokens - 1}, out);
  feed(*cache, id, {kTokens - 1, kTokens}, out);
  for (int l = 0; l < std::ssize(network_.shape().layers); ++l) {
    const Layer& site = network_.shape().layers[at(l)];
    const int64_t heads = site.num_kv_heads, d = site.head_dim, dv = site.value_dim;
    std::vector<float> keys(at(kTokens * heads * d)), values(at(kTokens * heads * dv));
    cache->materialise(l, id, {0, kTokens},
                       dense_view(keys.data(), Dtype::f32, {kTokens, heads, d}),
                       dense_view(values.data(), Dtype::f32, {kTokens, heads, dv}));
    for (int h = 0; h < site.num_heads; ++h) {
      const int64_t head = h / (site.num_heads / site.num_kv_heads);
      const float* const query = network_.queries(l, kTokens - 1) + h * d;
      std::vector<double> turned(query, query + d), want(at(dv));
      rotate(site.rope, kTokens - 1, turned.data());
      double sum = 0;
      for (int64_t p = 0; p < kTokens; ++p) {
        const float* const row = keys.data() + (p * heads + head) * d;
        std::vector<double> key(row, row + d);
        rotate(site.rope, p, key.data());
        double logit = 0;
        for (int64_t c = 0; c < d; ++c) logit += turned[at(c)] * key[at(c)];
        const double weight = std::exp(site.scale * logit);
        sum += weight;
        for (int64_t c = 0; c < dv; ++c)
          want[at(c)] += weight * values[at((p * heads + head) * dv + c)];
      }
      for (int64_t c = 0; c < dv; ++c)
        EXPECT_NEAR(out[at(l)][at(((kTokens - 1) * site.num_heads + h) * dv + c)],
                    want[at(c)] / sum, 1e-4)
            << "layer " << l << " head " << h;
    }
  }
}

// ---- ranges ----

TEST_P(Stored, ARangeGoesOnInAnotherCacheOrIsRefused) {
  const std::unique_ptr<Cache> from = cache(), to = cache();
  const SeqId id = from->add_sequence(), other = to->add_sequence();
  Outputs mine, theirs;
  feed(*from, id, {0, 25}, mine);
  theirs = mine;
  Rows rows;
  const std::string refusal = error_of([&] { rows = from->export_rows(id, {0, 25}); });
  const bool may = from->composition().capabilities.chunk_separable;
  if (refusal != "no error") {
    EXPECT_THAT(refusal, testing::StartsWith("E_UNSUPPORTED: "));
    if (may) {
      EXPECT_THAT(refusal, testing::HasSubstr("states"));
    }
    return;
  }
  EXPECT_TRUE(may);
  to->import_rows(other, rows, 0);
  for (int64_t p = 25; p < kTokens; ++p) {
    feed(*from, id, {p, p + 1}, mine);
    feed(*to, other, {p, p + 1}, theirs);
  }
  // Dead rows stay behind, so sums may be grouped otherwise: float32 sums of 40 terms.
  float most = 0;
  for (size_t l = 0; l < mine.size(); ++l)
    for (size_t i = 0; i < mine[l].size(); ++i)
      most = std::max(most, std::abs(mine[l][i] - theirs[l][i]));
  EXPECT_LE(most, drops() ? 3e-5F : 0.0F);
}

INSTANTIATE_TEST_SUITE_P(Methods, Stored, testing::ValuesIn(single_subjects()), name_of_subject);
INSTANTIATE_TEST_SUITE_P(Pairs, Stored, testing::ValuesIn(pair_subjects()), name_of_subject);

}  // namespace
}  // namespace kvlab::test
