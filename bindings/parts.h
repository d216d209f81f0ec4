#pragma once
// The parts of the Python module, a file each, and what they share.

#include <pybind11/pybind11.h>

#include <string_view>

#include "core/json.h"
#include "core/registry.h"

namespace kvlab::python {

void add_errors(pybind11::module_& module);
void add_methods(pybind11::module_& module);
void add_cache(pybind11::module_& module);
void add_evaluate(pybind11::module_& module);
void add_samples(pybind11::module_& module);

/// Everything this build contains; made when it is first asked for.
const Registry& registry();

/// The same value in Python's types.
pybind11::object to_python(const Json& value);
/// Dicts, lists, tuples, strings, numbers, booleans, None.  E_FORMAT: anything else, NaN; `where`
/// names the value in the message.
Json to_json(const pybind11::handle& value, std::string_view where);

}  // namespace kvlab::python
