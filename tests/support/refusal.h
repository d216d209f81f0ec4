#pragma once
// EXPECT_REFUSED("E_CODE", "part of the sentence", expression)

#include <gmock/gmock.h>

#include "tests/support/error.h"

#define EXPECT_REFUSED(code, part, ...)                                         \
  EXPECT_THAT(::kvlab::test::error_of([&] { static_cast<void>(__VA_ARGS__); }), \
              testing::AllOf(testing::StartsWith(code ": "), testing::HasSubstr(part)))
