// A plugin as its author would write it.
#include "core/plugin.h"

namespace {

void register_method(kvlab::Registry& registry) {
  registry.add(kvlab::Method{.name = "from_plugin", .summary = "A method of a shared object."});
}

}  // namespace

extern "C" const kvlab::Plugin* kvlab_plugin() {
  static const kvlab::Plugin plugin = KVLAB_PLUGIN(register_method);
  return &plugin;
}
