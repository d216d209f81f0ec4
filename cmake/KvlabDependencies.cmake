# Everything that comes from somebody else.

find_package(Python3 3.11 REQUIRED COMPONENTS Interpreter)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(Threads REQUIRED)
if(KVLAB_TESTS)
  find_package(GTest REQUIRED)
endif()

# The CPU half of the pinned torch wheel.  Its own CMake package wants a CUDA toolkit and links the
# CUDA half, which would make every program start slower and larger.
if(NOT KVLAB_TORCH_DIR)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c
            "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE KVLAB_TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
endif()
add_library(torch_cpu INTERFACE)
target_include_directories(torch_cpu SYSTEM INTERFACE
  ${KVLAB_TORCH_DIR}/include ${KVLAB_TORCH_DIR}/include/torch/csrc/api/include)
target_compile_definitions(torch_cpu INTERFACE AT_PER_OPERATOR_HEADERS)
target_link_libraries(torch_cpu INTERFACE
  ${KVLAB_TORCH_DIR}/lib/libtorch_cpu.so ${KVLAB_TORCH_DIR}/lib/libc10.so)
set_property(TARGET torch_cpu PROPERTY INTERFACE_LINK_OPTIONS
  -Wl,-rpath,${KVLAB_TORCH_DIR}/lib -Wl,--no-as-needed)
