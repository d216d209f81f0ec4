# Files of kernels/ that are compiled once per CPU instruction set (kernels/target.h), each time into
# a namespace of its own; the best one is picked when the program runs.

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(KVLAB_ISAS scalar avx2 avx512 avx512bf16)
else()
  set(KVLAB_ISAS scalar)
endif()
if(KVLAB_SANITIZE STREQUAL "thread")  # they differ in arithmetic alone
  set(KVLAB_ISAS scalar)
  add_compile_definitions(KVLAB_SCALAR_ALONE)
endif()
set(KVLAB_ISA_scalar -DKVLAB_ISA=0)
set(KVLAB_ISA_avx2 -DKVLAB_ISA=1 -mavx2 -mfma -mf16c)
set(KVLAB_ISA_avx512 -DKVLAB_ISA=2 -mavx2 -mfma -mf16c
  -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512)
set(KVLAB_ISA_avx512bf16 -DKVLAB_ISA=3 -mavx2 -mfma -mf16c
  -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512 -mavx512bf16 -mavx512vnni)

# No contraction: a codec gives the same bits on every device, fma is written where it is meant.
# Vectors never cross a call, so their ABI is nobody's business; g++ 12 takes the undefined operands
# of its own AVX-512 intrinsics for mistakes.  Debug builds would take minutes per test at -O0.
set(KVLAB_ISA_OPTIONS -ffp-contract=off -Wno-psabi -Wno-ignored-attributes
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> -Wno-uninitialized
  $<$<CONFIG:Debug>:-O1> $<$<CONFIG:RelWithDebInfo>:-g1>)

# kvlab_isa_sources(target file.cc ...): adds each file once per instruction set.
function(kvlab_isa_sources target)
  foreach(isa IN LISTS KVLAB_ISAS)
    add_library(${target}_${isa} OBJECT ${ARGN})
    target_link_libraries(${target}_${isa} PRIVATE kvlab_options)
    target_compile_options(${target}_${isa} PRIVATE ${KVLAB_ISA_${isa}} ${KVLAB_ISA_OPTIONS})
    set_target_properties(${target}_${isa} PROPERTIES UNITY_BUILD OFF)  # each defines its own W
    set_property(GLOBAL APPEND PROPERTY KVLAB_OBJECTS ${target}_${isa})
  endforeach()
endfunction()

# kvlab_codecs(target HEADER file.h CODECS name=Type ...): the tables of the codecs a header defines.
# C++ reaches them by KVLAB_CODEC_TABLES(name), kernels/codec_register.h; their CUDA kernels by name
# of their type, kernels/cuda_codecs.h.
function(kvlab_codecs target)
  cmake_parse_arguments(PARSE_ARGV 1 codec "" "HEADER" "CODECS")
  if(NOT codec_HEADER OR NOT codec_CODECS OR codec_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "kvlab_codecs(${target} ...): want HEADER file.h CODECS name=Type ...")
  endif()
  cmake_path(ABSOLUTE_PATH codec_HEADER OUTPUT_VARIABLE header)
  cmake_path(RELATIVE_PATH header BASE_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE include)
  set(tables "")
  set(cuda_kernels "")
  foreach(codec IN LISTS codec_CODECS)
    string(REGEX MATCH "^([a-z][a-z0-9_]*)=(.+)$" whole "${codec}")
    if(NOT whole)
      message(FATAL_ERROR "kvlab_codecs(${target}): `${codec}` is not name=Type")
    endif()
    string(APPEND tables "KVLAB_DEFINE_CODEC_TABLE(${CMAKE_MATCH_1}, ${CMAKE_MATCH_2})\n")
    string(APPEND cuda_kernels "KVLAB_DEFINE_CUDA_CODEC(${CMAKE_MATCH_1}, ${CMAKE_MATCH_2})\n")
    set_property(GLOBAL APPEND PROPERTY KVLAB_CODEC_NAMES ${CMAKE_MATCH_1})
    set_property(GLOBAL APPEND PROPERTY KVLAB_CODEC_HEADERS ${include})
    set_property(GLOBAL APPEND PROPERTY KVLAB_CODEC_TYPES "kvlab::${CMAKE_MATCH_2}")
  endforeach()
  set(file ${CMAKE_CURRENT_BINARY_DIR}/${target}.cc)
  file(CONFIGURE OUTPUT ${file} @ONLY CONTENT [=[
#include "@include@"
#include "kernels/codec_table.h"

@tables@]=])
  kvlab_isa_sources(${target} ${file})
  if(KVLAB_CUDA)
    file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${target}.cu @ONLY CONTENT [=[
#include "@include@"
#include "kernels/cuda/codec_kernels.cuh"

@cuda_kernels@]=])
    kvlab_cuda_objects(${target}_cuda ${CMAKE_CURRENT_BINARY_DIR}/${target}.cu)
  endif()
endfunction()
