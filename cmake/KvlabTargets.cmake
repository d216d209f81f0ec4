# The few kinds of target this project has.

add_library(kvlab_options INTERFACE)
target_include_directories(kvlab_options INTERFACE
  ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
# Paths in messages and debug information are the repository's own, wherever it was built (ccache
# makes them relative to the build folder first).
file(RELATIVE_PATH kvlab_source_from_build ${PROJECT_BINARY_DIR} ${PROJECT_SOURCE_DIR})
set(kvlab_prefix_maps -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=
                      -ffile-prefix-map=${kvlab_source_from_build}=
                      -ffile-prefix-map=${KVLAB_SITE_PACKAGES}/=)
target_compile_options(kvlab_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:\
-Wall;-Wextra;-Wnon-virtual-dtor;\
-fvisibility-inlines-hidden;${kvlab_prefix_maps}>")
foreach(sanitizer IN LISTS KVLAB_SANITIZE)
  target_compile_options(kvlab_options INTERFACE -fsanitize=${sanitizer} -fno-omit-frame-pointer)
  target_link_options(kvlab_options INTERFACE -fsanitize=${sanitizer})
endforeach()
if(KVLAB_SANITIZE)
  target_compile_options(kvlab_options INTERFACE -fno-sanitize-recover=all)
  # These builds compile eight sources of a target at a time (CMakePresets.json), in half the time.
  # So a name is unique in its target, in anonymous namespaces too, and every source is an include.
  target_compile_options(kvlab_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  # Test code itself is checked for less: these four triple what compiling its macros takes.
  target_compile_options(kvlab_options INTERFACE "$<$<BOOL:$<TARGET_PROPERTY:KVLAB_IS_TEST>>:\
-O0;-fno-sanitize=null,vptr,alignment,object-size>")
endif()
# g++ is the judge (clang only fuzzes); g++ 12 sees overlaps in `"text" + std::string` that are not
# there (GCC bug 105651).
target_compile_options(kvlab_options INTERFACE
  "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wshadow=local;-Werror;-Wno-restrict>")

# kvlab_objects(name sources...): an object library that becomes part of libkvlab.
function(kvlab_objects name)
  add_library(${name} OBJECT ${ARGN})
  target_link_libraries(${name} PUBLIC kvlab_options nlohmann_json::nlohmann_json)
  add_dependencies(${name} kvlab_generated)
  set_property(GLOBAL APPEND PROPERTY KVLAB_OBJECTS ${name})
endfunction()

# kvlab_registers(function): `void function(kvlab::Registry&)`, named with its namespace, is called
# by kvlab::register_all.
function(kvlab_registers function)
  set_property(GLOBAL APPEND PROPERTY KVLAB_REGISTER_FUNCTIONS ${function})
endfunction()

# kvlab_method(name SOURCES sources...): the whole of a method folder's CMakeLists.txt.  Its
# kvlab::<name>::register_method(Registry&) is called by kvlab::register_all.
function(kvlab_method name)
  cmake_parse_arguments(PARSE_ARGV 1 method "" "" "SOURCES")
  if(NOT method_SOURCES OR method_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "kvlab_method(${name} ...): want kvlab_method(${name} SOURCES ${name}.cc)")
  endif()
  kvlab_objects(kvlab_method_${name} ${method_SOURCES})
  target_link_libraries(kvlab_method_${name} PUBLIC torch_cpu)
  kvlab_registers(kvlab::${name}::register_method)
endfunction()

# kvlab_task, kvlab_metric, kvlab_protocol(name SOURCES sources...): the whole of a CMakeLists.txt in
# eval/tasks/, eval/metrics/, eval/protocols/.  kvlab::<kind>s::<name>::register_<kind>(Catalogue&)
# is called by kvlab::register_evaluation.
function(kvlab_evaluation_part kind name)
  cmake_parse_arguments(PARSE_ARGV 2 part "" "" "SOURCES")
  kvlab_objects(kvlab_${kind}_${name} ${part_SOURCES})
  set_property(GLOBAL APPEND PROPERTY
    KVLAB_EVALUATION_FUNCTIONS kvlab::${kind}s::${name}::register_${kind})
endfunction()
macro(kvlab_task)
  kvlab_evaluation_part(task ${ARGV})
endmacro()
macro(kvlab_metric)
  kvlab_evaluation_part(metric ${ARGV})
endmacro()
macro(kvlab_protocol)
  kvlab_evaluation_part(protocol ${ARGV})
endmacro()

# kvlab_plugin(name sources...): a shared object that --plugin can open.
function(kvlab_plugin name)
  add_library(${name} MODULE ${ARGN})
  set_target_properties(${name} PROPERTIES PREFIX "")
  target_link_libraries(${name} PRIVATE kvlab)
  add_dependencies(${name} kvlab_generated)
endfunction()

# kvlab_test(name sources... [THREADED sources...]): one test program per folder of tests/, one ctest
# entry per suite (per program under a sanitizer, where a start takes longest).  -O1, because tests are
# compiled more often than they run; what they test is compiled as ever.  THREADED names those of
# the sources that start threads: under ThreadSanitizer the program has no others.  ORACLES: the test
# computes more than what it tests, so that it is compiled with care under a sanitizer too.
function(kvlab_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "ORACLES" "" "THREADED")
  set(sources ${test_UNPARSED_ARGUMENTS} ${test_THREADED})
  list(REMOVE_DUPLICATES sources)
  set(wanted TRUE)
  if(KVLAB_SANITIZE STREQUAL "thread")
    set(sources ${test_THREADED})
    list(LENGTH sources wanted)
  endif()
  add_executable(${name} ${sources} $<TARGET_OBJECTS:kvlab_test_main>)
  target_link_libraries(${name} PRIVATE kvlab GTest::gmock)
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  target_compile_definitions(${name} PRIVATE $<$<BOOL:${KVLAB_CUDA}>:KVLAB_HAS_CUDA_OBJECT>)
  if(NOT test_ORACLES)
    set_target_properties(${name} PROPERTIES KVLAB_IS_TEST TRUE)
  endif()
  add_dependencies(${name} kvlab_generated)
  if(KVLAB_CUDA)
    add_dependencies(${name} kvlab_cuda)
  endif()
  if(KVLAB_SANITIZE)
    if(wanted)
      add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
      set_tests_properties(${name} PROPERTIES TIMEOUT 1800 SKIP_RETURN_CODE 77
        ENVIRONMENT OMP_WAIT_POLICY=passive)
    else()
      set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL TRUE)
    endif()
    return()
  endif()
  set(include ${CMAKE_CURRENT_BINARY_DIR}/${name}_suites.cmake)
  file(GENERATE OUTPUT ${include} CONTENT
"include(${PROJECT_SOURCE_DIR}/cmake/discover_suites.cmake)
discover_suites($<TARGET_FILE:${name}> ${CMAKE_CURRENT_BINARY_DIR} 600)
")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${include})
endfunction()

# kvlab_folders(): add_subdirectory for every folder below this one that has a CMakeLists.txt.
macro(kvlab_folders)
  file(GLOB kvlab_found CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} */CMakeLists.txt)
  foreach(kvlab_one IN LISTS kvlab_found)
    cmake_path(GET kvlab_one PARENT_PATH kvlab_one)
    add_subdirectory(${kvlab_one})
  endforeach()
endmacro()
