# Writes core/core_tag.h: cmake -D OUT= -D SOURCE= -D TORCH= -P core_tag.cmake
file(GLOB headers ${SOURCE}/*.h)
list(SORT headers)
set(text "")
foreach(header IN LISTS headers)
  file(SHA256 ${header} digest)
  cmake_path(GET header FILENAME name)
  string(APPEND text "${name} ${digest}\n")
endforeach()
string(SHA256 digest "${text}")
string(SUBSTRING ${digest} 0 16 digest)
file(CONFIGURE OUTPUT ${OUT} @ONLY CONTENT [[
#pragma once
#define KVLAB_CORE_TAG "core-@digest@/torch-@TORCH@"
]])
