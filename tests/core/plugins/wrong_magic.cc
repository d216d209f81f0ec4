// The right symbol with something else behind it: PLUGIN_VARIANT 0 null, 1 magic, 2 size, 3 no
// function, 4 an ABI tag that was put together at run time, so that no search of the file finds it.
#include <string>

#include "core/plugin.h"

namespace {

void register_method(kvlab::Registry&) {}

}  // namespace

extern "C" const kvlab::Plugin* kvlab_plugin() {
  static const std::string tag = std::string("kvlab-") + "abi:hidden";
  static kvlab::Plugin plugin = KVLAB_PLUGIN(register_method);
  if (PLUGIN_VARIANT == 0) return nullptr;
  if (PLUGIN_VARIANT == 1) plugin.magic = 0;
  if (PLUGIN_VARIANT == 2) plugin.struct_bytes = 8;
  if (PLUGIN_VARIANT == 3) plugin.register_method = nullptr;
  if (PLUGIN_VARIANT == 4) plugin.abi = tag.c_str();
  return &plugin;
}
