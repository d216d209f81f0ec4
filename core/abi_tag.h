#pragma once
// What must agree on both sides of a border between shared objects that share C++ types.
//
//   "kvlab-abi:core-0123456789abcdef/torch-2.11.0/gcc-12/libstdc++-12-cxx11-1/json-3.11.2"
//
// core's headers (a hash) and torch come from the build; compiler, standard library and
// nlohmann/json are those that compile the file which includes this one.

#include <nlohmann/json_fwd.hpp>

#include "core/core_tag.h"  // KVLAB_CORE_TAG, written by the build

#define KVLAB_ABI_PREFIX "kvlab-abi:"
#define KVLAB_ABI_QUOTE(x) #x
#define KVLAB_ABI_TEXT(x) KVLAB_ABI_QUOTE(x)

#ifdef __clang__
#define KVLAB_ABI_COMPILER "clang-" KVLAB_ABI_TEXT(__clang_major__)
#else
#define KVLAB_ABI_COMPILER "gcc-" KVLAB_ABI_TEXT(__GNUC__)
#endif
#define KVLAB_ABI_LIBRARY \
  "libstdc++-" KVLAB_ABI_TEXT(_GLIBCXX_RELEASE) "-cxx11-" KVLAB_ABI_TEXT(_GLIBCXX_USE_CXX11_ABI)
#define KVLAB_ABI_JSON                                                    \
  "json-" KVLAB_ABI_TEXT(NLOHMANN_JSON_VERSION_MAJOR) "." KVLAB_ABI_TEXT( \
      NLOHMANN_JSON_VERSION_MINOR) "." KVLAB_ABI_TEXT(NLOHMANN_JSON_VERSION_PATCH)

#define KVLAB_ABI_TAG \
  KVLAB_ABI_PREFIX KVLAB_CORE_TAG "/" KVLAB_ABI_COMPILER "/" KVLAB_ABI_LIBRARY "/" KVLAB_ABI_JSON
