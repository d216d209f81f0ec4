# What `pip install .` puts into an environment (scikit-build-core sets SKBUILD): the package with
# its libraries and headers, and the command.  `cmake --install` makes the same tree below a prefix.
# Every run path is relative, because torch and nvidia lie beside the package.

set(site lib/python${Python_VERSION_MAJOR}.${Python_VERSION_MINOR}/site-packages)
if(SKBUILD)
  set(package kvlab)
  set(scripts ${SKBUILD_SCRIPTS_DIR})
else()
  set(package ${site}/kvlab)
  set(scripts bin)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/bindings/kvlab/ DESTINATION ${package} COMPONENT kvlab
    PATTERN __pycache__ EXCLUDE)
endif()

set(beside $ORIGIN $ORIGIN/../torch/lib $ORIGIN/../nvidia/cu13/lib)
foreach(target kvlab kvlab_cuda kvlab_python)
  if(TARGET ${target})
    set_target_properties(${target} PROPERTIES INSTALL_RPATH "${beside}")
    install(TARGETS ${target} LIBRARY DESTINATION ${package} COMPONENT kvlab)
  endif()
endforeach()

# From bin/ of a virtual environment, of Debian's own Python, of `pip install --target`.
string(REPLACE site-packages dist-packages dist ${site})
set(from_bin "")
foreach(packages $ORIGIN/../${site} $ORIGIN/../${dist} $ORIGIN/..)
  list(APPEND from_bin ${packages}/kvlab ${packages}/torch/lib)
endforeach()
set_target_properties(kvlab_command PROPERTIES INSTALL_RPATH "${from_bin}")
install(TARGETS kvlab_command RUNTIME DESTINATION ${scripts} COMPONENT kvlab)

# For plugins: what core and the codec contract declare, and the tag of this build.
foreach(root ${PROJECT_SOURCE_DIR} ${kvlab_generated_dir})
  foreach(folder core kernels)
    install(DIRECTORY ${root}/${folder} DESTINATION ${package}/include COMPONENT kvlab
      FILES_MATCHING PATTERN *.h)
  endforeach()
endforeach()
