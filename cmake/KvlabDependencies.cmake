# Everything that comes from somebody else.

find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(Threads REQUIRED)
if(KVLAB_TESTS)
  find_package(GTest REQUIRED)
endif()

set(kvlab_python_parts Interpreter)
if(KVLAB_PYTHON)
  list(APPEND kvlab_python_parts Development.Module)
endif()
find_package(Python 3.11 REQUIRED COMPONENTS ${kvlab_python_parts})

# The CPU half of the pinned torch wheel.  Its own CMake package wants a CUDA toolkit and links the
# CUDA half, which would make every program start slower and larger.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c
          "import importlib.metadata as m; d = m.distribution('torch'); print(d.locate_file('torch')); print(d.version)"
  OUTPUT_VARIABLE kvlab_torch OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\n" ";" kvlab_torch "${kvlab_torch}")
list(GET kvlab_torch 0 KVLAB_TORCH_DIR)
list(GET kvlab_torch 1 KVLAB_TORCH_VERSION)
cmake_path(GET KVLAB_TORCH_DIR PARENT_PATH KVLAB_SITE_PACKAGES)

foreach(part torch_cpu c10)
  add_library(kvlab_lib${part} SHARED IMPORTED)
  set_target_properties(kvlab_lib${part} PROPERTIES
    IMPORTED_LOCATION ${KVLAB_TORCH_DIR}/lib/lib${part}.so)
endforeach()
add_library(torch_cpu INTERFACE)
target_include_directories(torch_cpu SYSTEM INTERFACE
  ${KVLAB_TORCH_DIR}/include ${KVLAB_TORCH_DIR}/include/torch/csrc/api/include)
target_compile_definitions(torch_cpu INTERFACE AT_PER_OPERATOR_HEADERS)
target_link_libraries(torch_cpu INTERFACE kvlab_libtorch_cpu kvlab_libc10)
# at::parallel_for is a header that runs serially, without a word, where OpenMP is off.  The runtime
# is the one LibTorch brings.  A thread sanitizer does not see into it, and clang wants another:
# these builds have threads of their own (kernels/parallel.cc).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT "thread" IN_LIST KVLAB_SANITIZE)
  target_compile_options(torch_cpu INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
  target_link_options(torch_cpu INTERFACE -fopenmp)
endif()

if(KVLAB_PYTHON)
  set(pybind11_DIR ${KVLAB_SITE_PACKAGES}/pybind11/share/cmake/pybind11)
  set(PYBIND11_FINDPYTHON ON)
  find_package(pybind11 3.1 REQUIRED)
endif()

# Plotly.js, which draws the plots of report.html, lies in the Python package of that name.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c
          "import importlib.metadata as m; d = m.distribution('plotly'); print(d.locate_file('plotly/package_data/plotly.min.js')); print(next(d.locate_file(f) for f in d.files if f.name == 'LICENSE.txt'))"
  OUTPUT_VARIABLE kvlab_plotly OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\n" ";" kvlab_plotly "${kvlab_plotly}")
list(GET kvlab_plotly 0 KVLAB_PLOTLY_JS)
list(GET kvlab_plotly 1 KVLAB_PLOTLY_LICENCE)
foreach(file ${KVLAB_PLOTLY_JS} ${KVLAB_PLOTLY_LICENCE})
  if(NOT EXISTS ${file})
    message(FATAL_ERROR "the Python package plotly has no ${file}: run ./run --setup")
  endif()
endforeach()
