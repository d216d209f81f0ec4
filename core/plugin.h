#pragma once
// Methods and codecs from a shared object: one C symbol, an ABI tag, C++ behind it.
//
//   extern "C" const kvlab::Plugin* kvlab_plugin() {
//     static const kvlab::Plugin plugin = KVLAB_PLUGIN(register_method);
//     return &plugin;
//   }
//
// In CMake: kvlab_plugin(name sources...).  By hand: a shared object that is compiled with the same
// compiler against these headers and linked with libkvlab.

#include <cstdint>
#include <filesystem>

#include "core/abi_tag.h"
#include "core/registry.h"

namespace kvlab {

struct Plugin {
  uint32_t magic;         // kPluginMagic
  uint32_t struct_bytes;  // sizeof(Plugin)
  const char* abi;        // KVLAB_ABI_TAG of the headers and compiler it was built with
  void (*register_method)(Registry&);
};

inline constexpr uint32_t kPluginMagic = 0x6b766c31;  // "kvl1"

/// KVLAB_ABI_TAG of the running library.
extern const char* const kPluginAbi;
#define KVLAB_PLUGIN(register_function) \
  {::kvlab::kPluginMagic, sizeof(::kvlab::Plugin), KVLAB_ABI_TAG, &(register_function)}

/// Opens `path` and lets it register itself; the object stays open for the life of the process.
/// E_PLUGIN: cannot be opened, another ABI (both tags named; found before any code of it runs), no
/// symbol kvlab_plugin, wrong magic.  E_FILE: no such file.  An Error of its register function
/// passes as it is; what was registered before it stays.
void load_plugin(const std::filesystem::path& path, Registry& registry);

}  // namespace kvlab
