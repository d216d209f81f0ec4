#pragma once
// Whether this build has more than the scalar kernels (cmake/KvlabKernels.cmake decides).

#if defined(__x86_64__) && !defined(KVLAB_SCALAR_ALONE)
#define KVLAB_HAS_X86_KERNELS 1
#else
#define KVLAB_HAS_X86_KERNELS 0
#endif
