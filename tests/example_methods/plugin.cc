// The example methods for the `kvlab` command.
#include "core/plugin.h"
#include "tests/example_methods/example_methods.h"

extern "C" const kvlab::Plugin* kvlab_plugin() {
  static const kvlab::Plugin plugin = KVLAB_PLUGIN(kvlab::test::register_example_methods);
  return &plugin;
}
