#pragma once
// From a codec struct to a Codec in the registry.  A method that brings its own codec writes
//
//   KVLAB_DECLARE_CODEC_TABLES(my_codec)
//   ...
//   registry.add(make_codec<MyCodec>({.name = "my_codec", .bound = "...", .schema = "...",
//                                     .params = [](int width, const Json& json) {
//                                       return MyCodec::Params{width, json.at("bits")};
//                                     }},
//                                    KVLAB_CODEC_TABLES(my_codec), "kvlab::my::MyCodec"));
//
// and in its CMakeLists.txt kvlab_method(my SOURCES my.cc CODEC codec.h CODECS
// my_codec=my::MyCodec).

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "core/codec.h"
#include "kernels/codec.h"
#include "kernels/codec_kernels.h"
#include "kernels/instruction_sets.h"

namespace kvlab {

using CodecTables = std::array<const CodecTable*, kIsaCount>;

/// The same kernels for the same name, width and parameters, for the life of the process.
const CodecKernels* interned_kernels(const std::string& name, const CodecKernels& made);

/// What core knows of these bytes.
Encoded encoded_of(const Planes& planes, int tile_rows, std::vector<Dtype> exact);

template <class C>
struct CodecDescription {
  std::string name{}, bound{}, schema{};
  /// Throws E_UNSUPPORTED for a width or a combination it cannot take.
  std::function<typename C::Params(int width, const Json& json)> params{};
  std::vector<Dtype> exact{};
};

template <class C>
CodecKernels kernels_of(const typename C::Params& params, const CodecTables& tables,
                        const char* cuda_type) {
  static_assert(RowCodec<C> && std::is_trivially_copyable_v<typename C::Params>);
  CodecKernels made{};
  std::memcpy(made.params, &params, sizeof params);
  made.planes = C::planes(params);
  made.tile_rows = C::tile_rows(params);
  std::memcpy(made.table, tables.data(), sizeof made.table);
  made.cuda_type = cuda_type;
  return made;
}

template <class C>
Codec make_codec(CodecDescription<C> description, const CodecTables& tables,
                 const char* cuda_type) {
  Codec codec{.name = description.name, .bound = description.bound, .schema = description.schema};
  codec.layout = [description](int width, const Json& json) {
    const auto params = description.params(width, json);
    return encoded_of(C::planes(params), C::tile_rows(params), description.exact);
  };
  codec.kernels = [description, tables, cuda_type](int width, const Json& json) {
    return interned_kernels(description.name,
                            kernels_of<C>(description.params(width, json), tables, cuda_type));
  };
  return codec;
}

}  // namespace kvlab

#define KVLAB_CODEC_TABLE_NAME_(name, target) kvlab_codec_table_##name##_##target
#define KVLAB_CODEC_TABLE_NAME(name, target) KVLAB_CODEC_TABLE_NAME_(name, target)

#if KVLAB_HAS_X86_KERNELS
#define KVLAB_DECLARE_CODEC_TABLES(name)                                     \
  extern "C" const ::kvlab::CodecTable KVLAB_CODEC_TABLE_NAME(name, scalar); \
  extern "C" const ::kvlab::CodecTable KVLAB_CODEC_TABLE_NAME(name, avx2);   \
  extern "C" const ::kvlab::CodecTable KVLAB_CODEC_TABLE_NAME(name, avx512); \
  extern "C" const ::kvlab::CodecTable KVLAB_CODEC_TABLE_NAME(name, avx512bf16);
#define KVLAB_CODEC_TABLES(name)                                                         \
  ::kvlab::CodecTables {                                                                 \
    &KVLAB_CODEC_TABLE_NAME(name, scalar), &KVLAB_CODEC_TABLE_NAME(name, avx2),          \
        &KVLAB_CODEC_TABLE_NAME(name, avx512), &KVLAB_CODEC_TABLE_NAME(name, avx512bf16) \
  }
#else
#define KVLAB_DECLARE_CODEC_TABLES(name) \
  extern "C" const ::kvlab::CodecTable KVLAB_CODEC_TABLE_NAME(name, scalar);
#define KVLAB_CODEC_TABLES(name) \
  ::kvlab::CodecTables { &KVLAB_CODEC_TABLE_NAME(name, scalar) }
#endif
