# Included by ctest before it runs: adds one test per suite of a GoogleTest program, because every
# start of a program loads LibTorch (0.3 s).  Instances of a parameterised suite belong to it.
#   discover_suites(program folder timeout)
function(discover_suites program folder timeout)
  cmake_path(GET program FILENAME name)
  if(NOT EXISTS ${program})
    add_test(${name}_NOT_BUILT ${program})
    return()
  endif()
  set(cache ${folder}/${name}.suites)
  if(NOT EXISTS ${cache} OR ${program} IS_NEWER_THAN ${cache})
    execute_process(COMMAND ${program} --gtest_list_tests
      OUTPUT_VARIABLE listed OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
    if(failed)
      message(FATAL_ERROR "${program} --gtest_list_tests: ${failed}")
    endif()
    string(REGEX MATCHALL "\n[A-Za-z_][^ \n]*\\." suites "\n${listed}")
    list(TRANSFORM suites REPLACE "^\n|\\.$" "")
    list(TRANSFORM suites REPLACE "^[^/]+/([A-Za-z_].*)$" "\\1")  # Instance/Suite, Instance/Suite/0
    list(TRANSFORM suites REPLACE "/[0-9]+$" "")                  # Suite/0, of a list of types
    list(REMOVE_DUPLICATES suites)
    file(WRITE ${cache} "${suites}")
  endif()
  file(READ ${cache} suites)
  foreach(suite IN LISTS suites)
    add_test(${name}.${suite} ${program}
      "--gtest_filter=${suite}.*:*/${suite}.*:${suite}/*.*:*/${suite}/*.*" --gtest_brief=1)
    set_tests_properties(${name}.${suite} PROPERTIES
      TIMEOUT ${timeout} SKIP_RETURN_CODE 77
      # Programs run side by side: their threads must not spin while they wait.
      ENVIRONMENT OMP_WAIT_POLICY=passive)
  endforeach()
endfunction()
