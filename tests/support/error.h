#pragma once
// How tests look at errors.

#include <string>

#include "core/error.h"

namespace kvlab::test {

/// what() of the Error that `act` throws, "E_SHAPE: cache: ..."; "no error" when it throws none.
template <class Act>
std::string error_of(Act&& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace kvlab::test
