#pragma once
// Methods that a test takes as examples.

#include <gtest/gtest.h>

#include "core/registry.h"

namespace kvlab::test {

inline bool is_registered(const char* method) {
  Registry registry;
  register_all(registry);
  return registry.has_method(method);
}

}  // namespace kvlab::test

/// Skips the test where the method's folder has been deleted: its folder is all there is of it.
#define KVLAB_EXAMPLE(method) \
  if (!kvlab::test::is_registered(method)) GTEST_SKIP() << "there is no method " << (method)
