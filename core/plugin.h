#pragma once
// Methods and codecs from a shared object: one C symbol, an ABI tag, C++ behind it.
//
//   extern "C" const kvlab::Plugin* kvlab_plugin() {
//     static const kvlab::Plugin plugin = KVLAB_PLUGIN(register_method);
//     return &plugin;
//   }

#include <cstdint>
#include <filesystem>

#include "core/abi_tag.h"  // KVLAB_ABI_TAG, written by the build
#include "core/registry.h"

namespace kvlab {

struct Plugin {
  uint32_t magic;         // kPluginMagic
  uint32_t struct_bytes;  // sizeof(Plugin)
  const char* abi;        // kPluginAbi of the headers it was built with
  void (*register_method)(Registry&);
};

inline constexpr uint32_t kPluginMagic = 0x6b766c31;  // "kvl1"

/// KVLAB_ABI_TAG: compiler, torch and a hash of core's headers, what must agree on both sides.
extern const char* const kPluginAbi;  // of the running library
#define KVLAB_PLUGIN(register_function) \
  {::kvlab::kPluginMagic, sizeof(::kvlab::Plugin), KVLAB_ABI_TAG, &register_function}

/// Opens `path` and lets it register itself; the object stays open for the life of the process.
/// E_PLUGIN: cannot be opened, no symbol kvlab_plugin, wrong magic, or another ABI (both tags
/// named).
void load_plugin(const std::filesystem::path& path, Registry& registry);

}  // namespace kvlab
