# The few kinds of target this project has.

add_library(kvlab_options INTERFACE)
target_include_directories(kvlab_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
target_compile_options(kvlab_options INTERFACE -Wall -Wextra -Wshadow=local -Wnon-virtual-dtor -Werror)
foreach(sanitizer IN LISTS KVLAB_SANITIZE)
  target_compile_options(kvlab_options INTERFACE -fsanitize=${sanitizer} -fno-omit-frame-pointer)
  target_link_options(kvlab_options INTERFACE -fsanitize=${sanitizer})
endforeach()

# kvlab_objects(name sources...): an object library that becomes part of libkvlab.
function(kvlab_objects name)
  add_library(${name} OBJECT ${ARGN})
  target_link_libraries(${name} PUBLIC kvlab_options nlohmann_json::nlohmann_json)
endfunction()

# kvlab_test(path/name_test.cc ...): one test program per folder of tests/, all facts in it.
function(kvlab_test name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE kvlab GTest::gmock GTest::gtest_main)
  include(GoogleTest)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 600)
endfunction()
