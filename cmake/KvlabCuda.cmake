# CUDA from the pinned wheels: nvcc, ptxas, CUB, cudart, cuBLAS and NVRTC lie in nvidia/cu13 of the
# Python environment.  Neither a system-wide toolkit nor a GPU is needed, and none is looked at.

set(KVLAB_CUDA_ROOT ${KVLAB_SITE_PACKAGES}/nvidia/cu13)
foreach(file bin/nvcc bin/ptxas nvvm/bin/cicc include/crt/host_config.h include/cccl
             lib/libcudart.so.13 lib/libnvrtc.so.13)
  if(NOT EXISTS ${KVLAB_CUDA_ROOT}/${file})
    message(FATAL_ERROR "KVLAB_CUDA=ON, but the Python environment has no ${KVLAB_CUDA_ROOT}/${file}"
      " (packages nvidia-cuda-nvcc, -crt, -cccl, nvidia-nvvm and those torch brings): "
      "run ./run --setup, or configure with -D KVLAB_CUDA=OFF")
  endif()
endforeach()

set(CMAKE_CUDA_COMPILER ${KVLAB_CUDA_ROOT}/bin/nvcc)
set(CMAKE_CUDA_FLAGS_INIT -L${KVLAB_CUDA_ROOT}/lib)  # CMake's trial programs; nvcc expects lib64
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
# Ampere's code also as PTX, so that a device of neither architecture compiles it when it starts.
set(CMAKE_CUDA_ARCHITECTURES 80 90a-real)
set(CMAKE_CUDA_RUNTIME_LIBRARY None)  # ours is the wheel's shared one, below
set(CMAKE_CUDA_STANDARD ${CMAKE_CXX_STANDARD})
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
enable_language(CUDA)

# No contraction, as on the CPU (cmake/KvlabKernels.cmake): fma is written where it is meant.
list(JOIN kvlab_prefix_maps "," maps)
target_compile_options(kvlab_options INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:\
--expt-relaxed-constexpr;--fmad=false;-lineinfo;--Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Werror,${maps}>")

foreach(part cudart:13 cublas:13 cublasLt:13)
  string(REPLACE ":" ";" part ${part})
  list(POP_FRONT part name version)
  add_library(kvlab_lib${name} SHARED IMPORTED)
  set_target_properties(kvlab_lib${name} PROPERTIES
    IMPORTED_LOCATION ${KVLAB_CUDA_ROOT}/lib/lib${name}.so.${version})
endforeach()
add_library(kvlab_cuda_options INTERFACE)
target_include_directories(kvlab_cuda_options SYSTEM INTERFACE
  ${KVLAB_CUDA_ROOT}/include ${KVLAB_CUDA_ROOT}/include/cccl)
target_link_libraries(kvlab_cuda_options INTERFACE kvlab_options nlohmann_json::nlohmann_json)

# kvlab_cuda_objects(name sources...): .cu (and .cc) files that become part of libkvlab_cuda.
function(kvlab_cuda_objects name)
  add_library(${name} OBJECT ${ARGN})
  target_link_libraries(${name} PUBLIC kvlab_cuda_options)
  add_dependencies(${name} kvlab_generated)
  set_property(GLOBAL APPEND PROPERTY KVLAB_CUDA_OBJECTS ${name})
endfunction()

# kernels/cuda/codec_table.h for all codecs named by kvlab_codecs().
function(kvlab_cuda_codec_table)
  get_property(names GLOBAL PROPERTY KVLAB_CODEC_NAMES)
  set(declarations "")
  set(pointers "")
  foreach(name IN LISTS names)
    string(APPEND declarations
      "extern \"C\" const kvlab::CudaCodecKernels kvlab_cuda_codec_${name};\n")
    string(APPEND pointers "    &kvlab_cuda_codec_${name},\n")
  endforeach()
  set(file ${kvlab_generated_dir}/cuda_codec_table.cc)
  file(CONFIGURE OUTPUT ${file} @ONLY CONTENT [=[
#include "kernels/cuda/codec_table.h"

@declarations@
namespace {
constexpr const kvlab::CudaCodecKernels* kAll[] = {
@pointers@};
}  // namespace

int kvlab::cuda_codec_count() { return sizeof kAll / sizeof *kAll; }
const kvlab::CudaCodecKernels& kvlab::cuda_codec(int i) { return *kAll[i]; }
]=])
  kvlab_cuda_objects(kvlab_cuda_codecs ${file})
endfunction()

# The shared object that libkvlab opens when a CUDA device is asked for; call it once, at the end.
function(kvlab_cuda_library)
  kvlab_cuda_codec_table()
  get_property(parts GLOBAL PROPERTY KVLAB_CUDA_OBJECTS)
  list(TRANSFORM parts REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>")
  add_library(kvlab_cuda SHARED ${parts})
  set_target_properties(kvlab_cuda PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(kvlab_cuda PRIVATE kvlab kvlab_libcudart)
endfunction()
