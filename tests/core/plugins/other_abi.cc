// Built against other headers.  Were any code of it run, it would show.
#include <cstdlib>

#include "core/plugin.h"

namespace {

[[gnu::constructor]] void ran() { ::setenv("KVLAB_TEST_OTHER_ABI_RAN", "1", 1); }

void register_method(kvlab::Registry&) {}

}  // namespace

extern "C" const kvlab::Plugin* kvlab_plugin() {
  static const kvlab::Plugin plugin = {kvlab::kPluginMagic, sizeof(kvlab::Plugin),
                                       "kvlab-abi:core-0000000000000000/another", &register_method};
  return &plugin;
}
