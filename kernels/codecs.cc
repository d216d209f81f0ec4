#include "kernels/codecs.h"

#include <bit>
#include <map>
#include <mutex>
#include <string>

#include "core/error.h"
#include "kernels/codec_register.h"
#include "kernels/codecs/float.h"
#include "kernels/codecs/float24.h"
#include "kernels/codecs/int.h"
#include "kernels/float_tables.h"

KVLAB_DECLARE_CODEC_TABLES(float32)
KVLAB_DECLARE_CODEC_TABLES(float16)
KVLAB_DECLARE_CODEC_TABLES(bfloat16)
KVLAB_DECLARE_CODEC_TABLES(float24)
KVLAB_DECLARE_CODEC_TABLES(bfloat24)
KVLAB_DECLARE_CODEC_TABLES(int8_token)
KVLAB_DECLARE_CODEC_TABLES(int4_token)
KVLAB_DECLARE_CODEC_TABLES(int2_token)
KVLAB_DECLARE_CODEC_TABLES(int8_channel)
KVLAB_DECLARE_CODEC_TABLES(int4_channel)
KVLAB_DECLARE_CODEC_TABLES(int2_channel)

namespace kvlab {

const CodecTable& float32_table(Isa isa) {
  return *KVLAB_CODEC_TABLES(float32)[static_cast<size_t>(isa)];
}

const CodecKernels* interned_kernels(const std::string& name, const CodecKernels& made) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<const CodecKernels>> all;
  const std::lock_guard lock(mutex);
  const std::string key =
      name + '\0' + std::string(reinterpret_cast<const char*>(made.params), sizeof made.params) +
      std::string(reinterpret_cast<const char*>(made.table), sizeof made.table);
  std::unique_ptr<const CodecKernels>& kept = all[key];
  if (!kept) kept = std::make_unique<const CodecKernels>(made);
  return kept.get();
}

Encoded encoded_of(const Planes& planes, int tile_rows, std::vector<Dtype> exact) {
  Encoded format{.tile_tokens = tile_rows, .row_wise = tile_rows == 1, .exact = std::move(exact)};
  for (int i = 0; i < planes.count; ++i) {
    const Plane& plane = planes.plane[i];
    format.planes.push_back({plane.row_bytes, plane.tile_bytes, plane.metadata});
  }
  return format;
}

namespace {

constexpr const char* kIntSchema = R"json({
  "axis": {"type": "string", "default": "token", "choices": ["token", "channel"],
           "doc": "token: a row has its own scales; channel: each feature of a tile of rows has one"},
  "group": {"type": "integer", "default": 32, "minimum": 0, "maximum": 16384,
            "doc": "numbers that share a scale and a minimum: features of a row (axis token; 0: the whole row) or rows of a feature (axis channel); a power of two from 32 on (channel: from 16 on)"}
})json";

FloatParams float_params(int width, const Json&) {
  KVLAB_REQUIRE(width >= 1, "E_SHAPE", "float codec: width ", width,
                "; rows have at least 1 feature");
  return {width};
}

template <class C>
Codec float_codec(const std::string& name, const std::string& bound, std::vector<Dtype> exact,
                  const CodecTables& tables, const char* cuda_type) {
  return make_codec<C>({.name = name,
                        .bound = bound,
                        .schema = "{}",
                        .params = float_params,
                        .exact = std::move(exact)},
                       tables, cuda_type);
}

struct IntChoice {
  bool channel = false;
  int group = 0;
};

IntChoice int_choice(int bits, int width, const Json& json) {
  const IntChoice choice{json.at("axis") == "channel", json.at("group").get<int>()};
  const int least = choice.channel ? 16 : 32;
  KVLAB_REQUIRE(bits == 8 || width % 8 == 0, "E_UNSUPPORTED", "int", bits, ": width ", width,
                " is not a multiple of 8; pad the stream, or use int8");
  KVLAB_REQUIRE(width >= 1 && width <= 1 << 20, "E_SHAPE", "int", bits, ": width ", width,
                " is outside 1..1048576");
  const bool whole_row = !choice.channel && choice.group == 0;
  KVLAB_REQUIRE(whole_row || (choice.group >= least && std::has_single_bit(unsigned(choice.group))),
                "E_CONFIG", "int", bits, ": group ", choice.group, " with axis `",
                choice.channel ? "channel" : "token", "`; allowed: powers of two from ", least,
                " on", choice.channel ? "" : ", or 0 for the whole row");
  return choice;
}

template <int B>
typename IntToken<B>::Params token_params(int width, int group) {
  return {width, group == 0 || group >= width ? 30 : std::countr_zero(unsigned(group))};
}

/// One name, two layouts: the axis decides which struct reads the bytes.
template <int B>
Codec int_codec(const CodecTables& token, const CodecTables& channel, const char* token_type,
                const char* channel_type) {
  const std::string name = "int" + std::to_string(B);
  Codec codec{.name = name,
              .bound =
                  "scale / 2 + 2^-21 max|group|, scale <= 1.001 (range of the group + 2^-10 "
                  "|minimum|) / " +
                  std::to_string((1 << B) - 1),
              .schema = kIntSchema};
  codec.layout = [](int width, const Json& json) {
    const IntChoice choice = int_choice(B, width, json);
    if (choice.channel)
      return encoded_of(IntChannel<B>::planes({width, choice.group}), choice.group, {});
    return encoded_of(IntToken<B>::planes(token_params<B>(width, choice.group)), 1, {});
  };
  codec.kernels = [=](int width, const Json& json) {
    const IntChoice choice = int_choice(B, width, json);
    return interned_kernels(
        name,
        choice.channel
            ? kernels_of<IntChannel<B>>({width, choice.group}, channel, channel_type)
            : kernels_of<IntToken<B>>(token_params<B>(width, choice.group), token, token_type));
  };
  return codec;
}

}  // namespace

const Codec& float32_codec() {
  static const Codec codec =
      float_codec<Fp32>("float32", "exact", {Dtype::f32, Dtype::f16, Dtype::bf16},
                        KVLAB_CODEC_TABLES(float32), "kvlab::Fp32");
  return codec;
}

void register_codecs(Registry& registry) {
  registry.add(float32_codec());
  registry.add(float_codec<Fp16>("float16", "2^-11 |x| for 2^-14 <= |x| <= 65504, 2^-25 below",
                                 {Dtype::f16}, KVLAB_CODEC_TABLES(float16), "kvlab::Fp16"));
  registry.add(float_codec<Bf16>("bfloat16", "2^-8 |x|", {Dtype::bf16},
                                 KVLAB_CODEC_TABLES(bfloat16), "kvlab::Bf16"));
  registry.add(float_codec<Float24>("float24", "2^-18 |x| for 2^-14 <= |x| <= 65504, 2^-32 below",
                                    {Dtype::f16}, KVLAB_CODEC_TABLES(float24), "kvlab::Float24"));
  registry.add(float_codec<Bfloat24>("bfloat24", "2^-15 |x| for |x| >= 2^-126, 2^-141 below",
                                     {Dtype::bf16}, KVLAB_CODEC_TABLES(bfloat24),
                                     "kvlab::Bfloat24"));
  registry.add(int_codec<8>(KVLAB_CODEC_TABLES(int8_token), KVLAB_CODEC_TABLES(int8_channel),
                            "kvlab::IntToken<8>", "kvlab::IntChannel<8>"));
  registry.add(int_codec<4>(KVLAB_CODEC_TABLES(int4_token), KVLAB_CODEC_TABLES(int4_channel),
                            "kvlab::IntToken<4>", "kvlab::IntChannel<4>"));
  registry.add(int_codec<2>(KVLAB_CODEC_TABLES(int2_token), KVLAB_CODEC_TABLES(int2_channel),
                            "kvlab::IntToken<2>", "kvlab::IntChannel<2>"));
}

}  // namespace kvlab
