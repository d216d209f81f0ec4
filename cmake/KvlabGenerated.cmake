# Sources that are written by the build: what this build is, what its headers are, who registers
# methods and codecs, and where tests find the repository.

set(kvlab_generated_dir ${PROJECT_BINARY_DIR}/generated)

# core/version.cc: looked at in every build, written only when the commit has changed.
add_custom_target(kvlab_version
  COMMAND ${CMAKE_COMMAND} -D OUT=${kvlab_generated_dir}/core/version.cc
          -D IN=${PROJECT_SOURCE_DIR}/core/version.cc.in -D SOURCE=${PROJECT_SOURCE_DIR}
          -D "NUMBER=${PROJECT_VERSION}" -D "BUILD=$<CONFIG>" -D "SANITIZE=${KVLAB_SANITIZE}"
          -D "TORCH=${KVLAB_TORCH_VERSION}"
          -D "COMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
          -P ${PROJECT_SOURCE_DIR}/cmake/version.cmake
  COMMENT "Looking at the commit"
  BYPRODUCTS ${kvlab_generated_dir}/core/version.cc
  VERBATIM)

# core/core_tag.h: changes whenever a header of core does, because plugins share its types.
file(GLOB kvlab_core_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/core/*.h)
add_custom_command(
  OUTPUT ${kvlab_generated_dir}/core/core_tag.h
  COMMAND ${CMAKE_COMMAND} -D OUT=${kvlab_generated_dir}/core/core_tag.h
          -D SOURCE=${PROJECT_SOURCE_DIR}/core -D "TORCH=${KVLAB_TORCH_VERSION}"
          -P ${PROJECT_SOURCE_DIR}/cmake/core_tag.cmake
  DEPENDS ${kvlab_core_headers} ${PROJECT_SOURCE_DIR}/cmake/core_tag.cmake
  VERBATIM)
add_custom_target(kvlab_generated DEPENDS ${kvlab_generated_dir}/core/core_tag.h)

# kvlab_register_table(variable PROPERTY p FUNCTION f TYPE t HEADER h): writes a definition of
# kvlab::f(t&) that calls every function in the global property p, and names its file.
function(kvlab_register_table variable)
  cmake_parse_arguments(PARSE_ARGV 1 table "" "PROPERTY;FUNCTION;TYPE;HEADER" "")
  get_property(functions GLOBAL PROPERTY ${table_PROPERTY})
  set(declarations "")
  set(calls "")
  foreach(function IN LISTS functions)
    string(REGEX MATCH "^(.+)::([^:]+)$" whole ${function})
    if(NOT whole)
      message(FATAL_ERROR "${table_PROPERTY}: ${function}: name it with its namespace")
    endif()
    string(APPEND declarations
      "namespace ${CMAKE_MATCH_1} {\nvoid ${CMAKE_MATCH_2}(::kvlab::${table_TYPE}&);\n}\n")
    string(APPEND calls "  ${function}(all);\n")
  endforeach()
  set(file ${kvlab_generated_dir}/${table_FUNCTION}.cc)
  file(CONFIGURE OUTPUT ${file} @ONLY CONTENT [=[
#include "@table_HEADER@"

@declarations@
void kvlab::@table_FUNCTION@([[maybe_unused]] @table_TYPE@& all) {
@calls@}
]=])
  set(${variable} ${file} PARENT_SCOPE)
endfunction()

# tests/source_dir.h: a header, so that only what needs the path depends on it.
if(KVLAB_TESTS)
  file(CONFIGURE OUTPUT ${kvlab_generated_dir}/tests/source_dir.h @ONLY CONTENT [=[
#pragma once
namespace kvlab {
/// The repository these tests were built from.
inline constexpr const char* kSourceDir = "@PROJECT_SOURCE_DIR@";
}  // namespace kvlab
]=])
endif()

# tests/kernels/all_codecs.h, tests/kernels/codec_sources.h: every codec that kvlab_codecs() was told
# of, as types and as text, so that a new one is tested without being named again.
function(kvlab_codec_lists)
  get_property(headers GLOBAL PROPERTY KVLAB_CODEC_HEADERS)
  get_property(types GLOBAL PROPERTY KVLAB_CODEC_TYPES)
  set(sources "")
  foreach(header type IN ZIP_LISTS headers types)
    string(APPEND sources "    {\"${header}\", \"${type}\"},\n")
  endforeach()
  list(REMOVE_DUPLICATES headers)
  list(TRANSFORM headers REPLACE "(.+)" "#include \"\\1\"")
  list(JOIN headers "\n" headers)
  list(TRANSFORM types REPLACE "(.+)" "X(\\1)")
  list(JOIN types " " types)
  file(CONFIGURE OUTPUT ${kvlab_generated_dir}/tests/kernels/all_codecs.h @ONLY CONTENT [=[
#pragma once
@headers@

#define KVLAB_ALL_CODECS(X) @types@
]=])
  file(CONFIGURE OUTPUT ${kvlab_generated_dir}/tests/kernels/codec_sources.h @ONLY CONTENT [=[
#pragma once
namespace kvlab {
struct CodecSource {
  const char* header;
  const char* type;
};
inline constexpr CodecSource kCodecSources[] = {
@sources@};
}  // namespace kvlab
]=])
endfunction()
