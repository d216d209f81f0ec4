# Compilers are called through ccache where there is one.  Objects are the same in every copy of the
# sources: paths below the root are made relative, precompiled headers are allowed.
find_program(KVLAB_CCACHE ccache)
if(KVLAB_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${KVLAB_CCACHE} base_dir=${PROJECT_SOURCE_DIR} hash_dir=false
      sloppiness=pch_defines,time_macros)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()
