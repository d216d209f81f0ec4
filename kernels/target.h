#pragma once
// What a file of kernels/ is being compiled for.  The same source is compiled once per CPU
// instruction set, each time into a namespace of its own, and by nvcc and NVRTC: only one of these
// namespaces is ever visible in a translation unit, so names inside it need no prefix.
//
// KVLAB_ISA is the instruction set, set by the build (cmake/KvlabKernels.cmake); files that nobody
// sets it for are baseline code and see the scalar versions.  A test that defines
// KVLAB_EMULATE_CUDA before its first include sees what nvcc sees, compiled by g++: the same types,
// index arithmetic and order of operations, and a count of accesses a GPU would refuse.

#define KVLAB_ISA_SCALAR 0
#define KVLAB_ISA_AVX2 1        // AVX2, FMA, F16C
#define KVLAB_ISA_AVX512 2      // and AVX-512 F, BW, VL, DQ
#define KVLAB_ISA_AVX512BF16 3  // and AVX-512 BF16, VNNI

#ifndef KVLAB_ISA
#define KVLAB_ISA KVLAB_ISA_SCALAR
#endif

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define KVLAB_ON_CUDA 1
#define KVLAB_HD __host__ __device__ __forceinline__
#define KVLAB_TARGET cuda
#elif defined(KVLAB_EMULATE_CUDA)
#define KVLAB_ON_CUDA 1
#define KVLAB_HD inline
#define KVLAB_TARGET cuda
#else
#define KVLAB_ON_CUDA 0
// Always inlined: vectors must never cross a call between files of different instruction sets.
#define KVLAB_HD [[gnu::always_inline]] inline
#if KVLAB_ISA == KVLAB_ISA_AVX512BF16
#define KVLAB_TARGET avx512bf16
#elif KVLAB_ISA == KVLAB_ISA_AVX512
#define KVLAB_TARGET avx512
#elif KVLAB_ISA == KVLAB_ISA_AVX2
#define KVLAB_TARGET avx2
#else
#define KVLAB_TARGET scalar
#endif
#endif

#ifdef __CUDA_ARCH__
#define KVLAB_UNROLL _Pragma("unroll")
#else
#define KVLAB_UNROLL
#endif

#ifdef __CUDACC_RTC__
namespace kvlab {
using u8 = unsigned char;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
}  // namespace kvlab
#else
#include <cstdint>
namespace kvlab {
using u8 = std::uint8_t;
}  // namespace kvlab
#endif
