// Codecs through the engine: bytes against the layout text, error bounds, round trips, moves.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "core/error.h"
#include "kernels/cpu_engine.h"
#include "tests/kernels/pages.h"

namespace kvlab::test {
namespace {

struct Choice {
  std::string codec, params;
  std::vector<int> widths;
};

/// Groups that do and do not divide the width, whole rows, one feature, odd tails.
const std::vector<Choice> kChoices{
    {"float32", "{}", {1, 7, 64}},
    {"float16", "{}", {1, 7, 64, 129}},
    {"bfloat16", "{}", {1, 7, 64, 129}},
    {"float24", "{}", {1, 7, 64, 129}},
    {"bfloat24", "{}", {1, 7, 64, 129}},
    {"int8", R"({"group": 0})", {1, 5, 40, 128}},
    {"int8", R"({"group": 32})", {16, 33, 128}},
    {"int8", R"({"group": 128})", {96, 512}},
    {"int4", R"({"group": 0})", {8, 24, 128}},
    {"int4", R"({"group": 32})", {8, 40, 128, 136}},
    {"int4", R"({"group": 64})", {48, 64, 192}},
    {"int2", R"({"group": 0})", {8, 128}},
    {"int2", R"({"group": 32})", {24, 128}},
    {"int8", R"({"axis": "channel", "group": 16})", {3, 64}},
    {"int4", R"({"axis": "channel", "group": 32})", {8, 40, 128}},
    {"int2", R"({"axis": "channel", "group": 64})", {8, 128}},
};

using Rows = std::vector<std::vector<float>>;

Rows random_rows(uint64_t seed, int64_t count, int64_t width) {
  std::mt19937_64 random(seed);
  Rows rows;
  for (int64_t r = 0; r < count; ++r) {
    rows.push_back(normal(random, width));
    // Offsets and scales that differ from row to row, as keys have.
    for (float& x : rows.back())
      x = x * std::exp2(static_cast<float>(r % 7) - 3) + static_cast<float>(r % 3);
  }
  return rows;
}

std::vector<std::vector<double>> in_double(const Rows& rows) {
  std::vector<std::vector<double>> x;
  for (const std::vector<float>& row : rows) x.emplace_back(row.begin(), row.end());
  return x;
}

std::string code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return "none";
}

/// Rows [0, n) of a list, as the engine decodes them.
std::vector<float> decoded(Engine& engine, const Pages& pages, int stream, int64_t n) {
  const StreamLayout& s = pages.layout.streams[static_cast<size_t>(stream)];
  std::vector<float> x(static_cast<size_t>(n * s.units * s.width));
  std::vector<Placement> where;
  for (int64_t r = 0; r < n; ++r) where.push_back({static_cast<int32_t>(r), 0, r});
  engine.decode({.from = &pages.view,
                 .stream = stream,
                 .rows = dense_view(x.data(), Dtype::f32, {n, s.units, s.width}),
                 .where = where});
  return x;
}

class Codecs : public ::testing::TestWithParam<std::string> {
 protected:
  std::shared_ptr<Engine> engine_ = make_cpu_engine({.isa = GetParam()});
};

TEST_P(Codecs, BytesMeanWhatTheLayoutSaysAndStayInsideTheBound) {
  uint64_t seed = 1;
  for (const Choice& choice : kChoices)
    for (const int width : choice.widths) {
      SCOPED_TRACE(choice.codec + choice.params + " width " + std::to_string(width));
      Pages pages({stream("x", 1, width, choice.codec, choice.params)}, 1);
      pages.resize(0, 0, 128);
      const Rows rows = random_rows(seed++, 128, width);
      pages.write(*engine_, 0, 0, 0, rows);
      const auto bounds = oracle::error_bounds(format_of(pages.layout.streams[0]), in_double(rows));
      const std::vector<float> read = decoded(*engine_, pages, 0, 128);
      for (size_t r = 0; r < rows.size(); ++r) {
        const std::vector<double> stored = pages.stored(0, 0, 0, static_cast<int64_t>(r));
        for (size_t c = 0; c < stored.size(); ++c) {
          EXPECT_LE(std::abs(stored[c] - rows[r][c]), bounds[r][c]) << "row " << r << ", " << c;
          // decode is one fma: the double value rounded once.
          EXPECT_EQ(read[r * stored.size() + c], static_cast<float>(stored[c]));
        }
        if (HasFailure()) return;
      }
    }
}

TEST_P(Codecs, EveryInstructionSetWritesTheSameBytes) {
  const std::shared_ptr<Engine> scalar = make_cpu_engine({.isa = "scalar"});
  for (const Choice& choice : kChoices)
    for (const int width : choice.widths) {
      Pages a({stream("x", 2, width, choice.codec, choice.params)}, 1);
      Pages b({stream("x", 2, width, choice.codec, choice.params)}, 1);
      const Rows rows = random_rows(9, 64, 2 * width);
      for (Pages* pages : {&a, &b}) pages->resize(0, 0, 64);
      a.write(*scalar, 0, 0, 0, rows);
      b.write(*engine_, 0, 0, 0, rows);
      EXPECT_EQ(std::memcmp(a.view.lists[0].base, b.view.lists[0].base,
                            static_cast<size_t>(a.layout.bytes)),
                0)
          << choice.codec << choice.params << " width " << width;
    }
}

TEST_P(Codecs, ConstantGroupsOfHalfNumbersAreExact) {
  for (const char* codec : {"int8", "int4", "int2"}) {
    Pages pages({stream("x", 1, 64, codec)}, 1);
    pages.resize(0, 0, 1);
    for (const float x : {0.0f, 1.5f, -65504.0f, 6e-8f * 0}) {
      pages.write(*engine_, 0, 0, 0, {std::vector<float>(64, x)});
      for (const double y : pages.stored(0, 0, 0, 0)) EXPECT_EQ(y, x) << codec;
    }
  }
}

TEST_P(Codecs, NumbersBeyondTheFormatAreRefusedAndReadAsNan) {
  for (const char* codec : {"int8", "int4", "int2"}) {
    Pages pages({stream("x", 1, 64, codec)}, 1);
    pages.resize(0, 0, 1);
    std::vector<float> row(64, 1.0f);
    row[40] = -1e6f;
    EXPECT_EQ(code_of([&] { pages.write(*engine_, 0, 0, 0, {row}); }), "E_NONFINITE");
    const std::vector<double> stored = pages.stored(0, 0, 0, 0);
    EXPECT_EQ(stored[0], 1.0) << codec;  // its group is fine
    EXPECT_TRUE(std::isnan(stored[40])) << codec;
  }
  for (const char* codec : {"float16", "float24"}) {
    Pages half({stream("x", 1, 8, codec)}, 1);
    half.resize(0, 0, 1);
    EXPECT_EQ(code_of([&] { half.write(*engine_, 0, 0, 0, {std::vector<float>(8, 1e6f)}); }),
              "E_NONFINITE");
  }
}

TEST_P(Codecs, NanAndInfinityPassThroughAndSpoilOnlyTheirGroup) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {nan, std::numeric_limits<float>::infinity()})
    for (const char* codec :
         {"float32", "bfloat16", "float16", "float24", "bfloat24", "int8", "int4"}) {
      Pages pages({stream("x", 1, 64, codec)}, 1);
      pages.resize(0, 0, 1);
      std::vector<float> row(64, 0.5f);
      row[3] = bad;
      pages.write(*engine_, 0, 0, 0, {row});
      const std::vector<double> stored = pages.stored(0, 0, 0, 0);
      EXPECT_FALSE(std::isfinite(stored[3])) << codec;
      EXPECT_EQ(stored[63], 0.5) << codec;
    }
}

/// All 65536 numbers of a 16-bit format, as the codec reads them back.
Rows all_numbers(double (*value)(uint16_t)) {
  Rows rows(256);
  for (int bits = 0; bits < 65536; ++bits)
    rows[static_cast<size_t>(bits / 256)].push_back(
        static_cast<float>(value(static_cast<uint16_t>(bits))));
  return rows;
}
std::vector<float> read_back(Engine& engine, const char* codec, const Rows& rows) {
  Pages pages({stream("x", 1, 256, codec)}, 1);
  pages.resize(0, 0, 256);
  pages.write(engine, 0, 0, 0, rows);
  return decoded(engine, pages, 0, 256);
}
bool is_same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

TEST_P(Codecs, EveryNumberOfAnExactDtypeSurvivesBitForBit) {
  const struct {
    const char* codec;
    Dtype dtype;
    double (*value)(uint16_t);
  } kExact[] = {{"float16", Dtype::f16, oracle::half},
                {"float24", Dtype::f16, oracle::half},
                {"bfloat16", Dtype::bf16, oracle::bfloat},
                {"bfloat24", Dtype::bf16, oracle::bfloat}};
  for (const auto& [codec, dtype, value] : kExact) {
    EXPECT_TRUE(stream("x", 1, 256, codec).format.is_exact_for(dtype)) << codec;
    const Rows rows = all_numbers(value);
    const std::vector<float> read = read_back(*engine_, codec, rows);
    for (size_t i = 0; i < 65536; ++i)
      ASSERT_TRUE(is_same(read[i], rows[i / 256][i % 256])) << codec << " " << i;
  }
}

TEST_P(Codecs, HalfNumbersInBfloat24SurviveButForTiesRoundedDown) {
  EXPECT_FALSE(stream("x", 1, 256, "bfloat24").format.is_exact_for(Dtype::f16));
  const Rows rows = all_numbers(oracle::half);
  const std::vector<float> read = read_back(*engine_, "bfloat24", rows);
  for (size_t i = 0; i < 65536; ++i) {
    const float x = rows[i / 256][i % 256];
    if (!std::isfinite(x) || x == 0) {
      ASSERT_TRUE(is_same(read[i], x)) << i;
      continue;
    }
    // Where the upper 16 bits are `below`, an even one in x's binade, x is 128 steps above them.
    const double step = std::ldexp(1.0, std::ilogb(x) - 7 - 8), below = x - 128 * step;
    const bool is_tie = std::fmod(below, 512 * step) == 0 && std::ilogb(below) == std::ilogb(x);
    ASSERT_TRUE(is_same(read[i], is_tie ? static_cast<float>(x - step) : x)) << i;
  }
  EXPECT_EQ(read[0x3c04], 1 + 127 * 0x1p-15f);  // 1 + 2^-8
}

TEST_P(Codecs, CorrectedNumbersStayInsideTheBoundInEveryBinade) {
  std::mt19937_64 random(12);
  std::uniform_real_distribution<float> mantissa(1.0f, 2.0f);
  const struct {
    const char* codec;
    int least, most;
  } kCodecs[] = {{"float24", -30, 14}, {"bfloat24", -149, 126}};
  for (const auto& [codec, least, most] : kCodecs) {
    Rows rows;
    for (int exponent = least; exponent <= most; ++exponent) {
      rows.emplace_back();
      // Both sides of a power of two, a tie of each kind, and what lies between.
      for (const float x : {1.0f, 0x1.fffffep0f, 1 + 0x1p-8f, 1 + 0x3p-8f, 1 + 0x1p-11f,
                            1 + 0x3p-11f, 1 + 0x1.fep-9f, 1 + 0x1.fep-12f})
        for (const float sign : {1.0f, -1.0f})
          rows.back().push_back(std::ldexp(sign * x, exponent));
      while (rows.back().size() < 64) rows.back().push_back(std::ldexp(mantissa(random), exponent));
    }
    const auto n = std::ssize(rows);
    Pages pages({stream("x", 1, 64, codec)}, 1);
    pages.resize(0, 0, n);
    pages.write(*engine_, 0, 0, 0, rows);
    const auto bounds = oracle::error_bounds(format_of(pages.layout.streams[0]), in_double(rows));
    const std::vector<float> read = decoded(*engine_, pages, 0, n);
    for (size_t r = 0; r < rows.size(); ++r) {
      const std::vector<double> stored = pages.stored(0, 0, 0, static_cast<int64_t>(r));
      for (size_t c = 0; c < 64; ++c) {
        ASSERT_LE(std::abs(stored[c] - rows[r][c]), bounds[r][c]) << codec << " " << rows[r][c];
        ASSERT_EQ(read[r * 64 + c], static_cast<float>(stored[c])) << codec << " " << rows[r][c];
      }
    }
  }
}

TEST_P(Codecs, HadamardRotationIsUndoneByDecode) {
  for (const int width : {16, 48, 64, 96, 128, 576}) {
    Pages pages({stream("x", 1, width, "float32", "{}", true)}, 1);
    pages.resize(0, 0, 3);
    const Rows rows = random_rows(5, 3, width);
    pages.write(*engine_, 0, 0, 0, rows);
    const std::vector<float> read = decoded(*engine_, pages, 0, 3);
    for (size_t r = 0; r < 3; ++r) {
      const std::vector<double> stored = pages.stored(0, 0, 0, static_cast<int64_t>(r));
      double size = 0;
      for (const float x : rows[r]) size += double{x} * x;
      const double bound = 2 * std::log2(width) * std::ldexp(std::sqrt(size), -23);
      for (size_t c = 0; c < stored.size(); ++c) {
        EXPECT_NEAR(stored[c], rows[r][c], bound) << "width " << width;
        EXPECT_NEAR(read[r * stored.size() + c], rows[r][c], bound) << "width " << width;
      }
    }
  }
}

TEST_P(Codecs, WidthsThatCannotBeRotatedAreRefused) {
  Pages pages({stream("x", 1, 40, "float32", "{}", true)}, 1);
  pages.resize(0, 0, 1);
  EXPECT_EQ(code_of([&] { pages.write(*engine_, 0, 0, 0, random_rows(1, 1, 40)); }),
            "E_UNSUPPORTED");
}

TEST_P(Codecs, AsStoredIsWhatReadersSee) {
  for (const Choice& choice : kChoices) {
    const int width = choice.widths.back();
    Pages pages({stream("x", 1, width, choice.codec, choice.params)}, 1);
    pages.resize(0, 0, 64);
    const Rows rows = random_rows(3, 64, width);
    std::vector<float> flat, seen(static_cast<size_t>(64 * width));
    std::vector<Placement> where;
    for (int32_t r = 0; r < 64; ++r) {
      flat.insert(flat.end(), rows[static_cast<size_t>(r)].begin(),
                  rows[static_cast<size_t>(r)].end());
      where.push_back({r, 0, r});
    }
    engine_->encode({.to = &pages.view,
                     .rows = dense_view(flat.data(), Dtype::f32, {64, 1, width}),
                     .where = where,
                     .as_stored = dense_view(seen.data(), Dtype::f32, {64, 1, width})});
    EXPECT_EQ(seen, decoded(*engine_, pages, 0, 64)) << choice.codec << choice.params;
  }
}

TEST_P(Codecs, MovesBetweenFormatsDecodeAndEncode) {
  for (const Choice& choice : kChoices) {
    const int width = 64;
    Pages recent({stream("x", 2, width, "bfloat16"), stream("only here", 1, 8, "float32")}, 1,
                 {.page_tokens = 16, .shuffle = true, .columns = {{"mass", Dtype::f32}}});
    Pages past({stream("x", 2, width, choice.codec, choice.params)}, 1,
               {.position_column = true, .columns = {{"mass", Dtype::f32}}});
    recent.resize(0, 10, 10 + 128);
    past.resize(0, 0, 128);
    const Rows rows = random_rows(4, 128, 2 * width);
    recent.write(*engine_, 0, 0, 10, rows);
    std::vector<Move> moves;
    for (int64_t t = 0; t < 128; ++t) {
      recent.set_float(0, "mass", 10 + t, static_cast<float>(t));
      moves.push_back({0, 10 + t, t});
    }
    engine_->move({.from = &recent.view, .to = &past.view, .moves = moves});
    // The same rows, encoded directly from what bfloat16 kept.
    Pages direct({stream("x", 2, width, choice.codec, choice.params)}, 1);
    direct.resize(0, 0, 128);
    Rows kept;
    for (int64_t t = 0; t < 128; ++t) {
      kept.emplace_back();
      for (int unit = 0; unit < 2; ++unit)
        for (const double x : recent.stored(0, 0, unit, 10 + t))
          kept.back().push_back(static_cast<float>(x));
    }
    direct.write(*engine_, 0, 0, 0, kept);
    EXPECT_EQ(decoded(*engine_, past, 0, 128), decoded(*engine_, direct, 0, 128))
        << choice.codec << choice.params;
    float mass;
    std::memcpy(&mass, column_at(past.layout, past.view.lists[0], past.layout.column("mass"), 77),
                4);
    EXPECT_EQ(mass, 77.0f);
  }
}

TEST_P(Codecs, MovesInsideAPartCompactByteForByte) {
  for (const Choice& choice : kChoices) {
    if (choice.params.find("channel") != std::string::npos) continue;
    const int width = choice.widths.back();
    Pages pages({stream("x", 1, width, choice.codec, choice.params)}, 1,
                {.page_tokens = 16, .shuffle = true, .position_column = true});
    pages.resize(0, 0, 100);
    pages.write(*engine_, 0, 0, 0, random_rows(6, 100, width));
    std::vector<std::vector<double>> kept;
    std::vector<Move> moves;
    for (int64_t t = 0; t < 100; ++t) {
      pages.set_int(0, pages.layout.position, t, static_cast<int32_t>(t));
      if (t % 3 != 1) continue;
      kept.push_back(pages.stored(0, 0, 0, t));
      moves.push_back({0, t, std::ssize(kept) - 1});
    }
    engine_->move({.from = &pages.view, .to = &pages.view, .moves = moves});
    for (size_t i = 0; i < kept.size(); ++i) {
      EXPECT_EQ(pages.stored(0, 0, 0, static_cast<int64_t>(i)), kept[i]) << choice.codec;
      EXPECT_EQ(pages.position(0, static_cast<int64_t>(i)), moves[i].from);
    }
  }
}

TEST(CodecParameters, AreRefusedWhereTheyMeanNothing) {
  EXPECT_EQ(code_of([] { stream("x", 1, 64, "int4", R"({"group": 48})"); }), "E_CONFIG");
  EXPECT_EQ(code_of([] { stream("x", 1, 64, "int4", R"({"axis": "channel", "group": 0})"); }),
            "E_CONFIG");
  EXPECT_EQ(code_of([] { stream("x", 1, 12, "int4"); }), "E_UNSUPPORTED");
  EXPECT_EQ(code_of([] { codecs().codec("int5"); }), "E_UNKNOWN");
}

TEST(CodecBytes, AreTheFormulas) {
  const auto bytes = [](int width, const char* codec, const char* params) {
    const Encoded format = stream("x", 1, width, codec, params).format;
    return std::pair(format.payload_bytes_per_tile(), format.metadata_bytes_per_tile());
  };
  using Pair = std::pair<int64_t, int64_t>;
  EXPECT_EQ(bytes(128, "bfloat16", "{}"), Pair(256, 0));
  EXPECT_EQ(bytes(128, "float24", "{}"), Pair(384, 0));
  EXPECT_EQ(bytes(7, "bfloat24", "{}"), Pair(21, 0));
  EXPECT_EQ(bytes(128, "int8", R"({"group": 0})"), Pair(128, 4));
  EXPECT_EQ(bytes(128, "int4", R"({"group": 32})"), Pair(64, 16));
  EXPECT_EQ(bytes(100, "int8", R"({"group": 32})"), Pair(100, 16));
  EXPECT_EQ(bytes(128, "int2", R"({"axis": "channel", "group": 32})"), Pair(32 * 32, 512));
}

INSTANTIATE_TEST_SUITE_P(Isa, Codecs, ::testing::ValuesIn(cpu_instruction_sets()),
                         [](const auto& isa) { return isa.param; });

}  // namespace
}  // namespace kvlab::test
