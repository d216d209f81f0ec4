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

# kvlab_register_table(variable): writes the definition of register_all and names its file.
function(kvlab_register_table variable)
  get_property(functions GLOBAL PROPERTY KVLAB_REGISTER_FUNCTIONS)
  set(declarations "")
  set(calls "")
  foreach(function IN LISTS functions)
    string(REGEX MATCH "^(.+)::([^:]+)$" whole ${function})
    if(NOT whole)
      message(FATAL_ERROR "kvlab_registers(${function}): name it with its namespace")
    endif()
    string(APPEND declarations
      "namespace ${CMAKE_MATCH_1} {\nvoid ${CMAKE_MATCH_2}(::kvlab::Registry& registry);\n}\n")
    string(APPEND calls "  ${function}(registry);\n")
  endforeach()
  set(file ${kvlab_generated_dir}/core/register_all.cc)
  file(CONFIGURE OUTPUT ${file} @ONLY CONTENT [=[
#include "core/registry.h"

@declarations@
void kvlab::register_all([[maybe_unused]] Registry& registry) {
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
