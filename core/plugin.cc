#include "core/plugin.h"

#include <dlfcn.h>
#include <elf.h>

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/files.h"

namespace kvlab {

const char* const kPluginAbi = KVLAB_ABI_TAG;

namespace {

/// The tag as it lies in the file, so that no code of another ABI has to run to learn of it; ""
/// when there is none.
std::string tag_in(std::span<const u8> file) {
  static constexpr std::string_view kPrefix = KVLAB_ABI_PREFIX;
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  const size_t first = text.find(kPrefix);
  if (first == text.npos) return "";
  const size_t longest = std::min<size_t>(text.size() - first, 256);
  return std::string(text.substr(first, std::min(longest, text.substr(first).find('\0'))));
}

/// The dynamic loader maps what an ELF header announces and faults where a file that was cut off
/// has no bytes; the sections lie last.  Whatever else is wrong the loader says itself.
bool is_cut_off(std::span<const u8> file) {
  Elf64_Ehdr header{};
  if (file.size() < SELFMAG || std::memcmp(file.data(), ELFMAG, SELFMAG) != 0) return false;
  if (file.size() < sizeof header) return true;
  std::memcpy(&header, file.data(), sizeof header);
  const auto fits = [&](uint64_t offset, uint64_t bytes) {
    return offset <= file.size() && bytes <= file.size() - offset;
  };
  if (!fits(header.e_shoff, uint64_t{header.e_shnum} * header.e_shentsize)) return true;
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return false;
  if (!fits(header.e_phoff, uint64_t{header.e_phnum} * sizeof(Elf64_Phdr))) return true;
  for (size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    std::memcpy(&segment, file.data() + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type == PT_LOAD && !fits(segment.p_offset, segment.p_filesz)) return true;
  }
  return false;
}

void require_abi(std::string_view abi, const std::string& who) {
  KVLAB_REQUIRE(abi == kPluginAbi, "E_PLUGIN", who, " was built for ", printable(abi, 256),
                ", but this is ", kPluginAbi, "; build it again with this kvlab's headers");
}

/// An opened object; closed again unless it is kept.
class Opened {
 public:
  Opened(const std::filesystem::path& path, const std::string& who)
      : handle_(::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    KVLAB_REQUIRE(handle_ != nullptr, "E_PLUGIN", who,
                  " cannot be opened: ", printable(::dlerror(), 400));
  }
  ~Opened() {
    if (handle_ != nullptr) ::dlclose(handle_);
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  void* symbol(const char* name) const { return ::dlsym(handle_, name); }
  void keep() { handle_ = nullptr; }

 private:
  void* handle_;
};

const Plugin& plugin_of(const Opened& object, const std::string& who) {
  const auto entry = reinterpret_cast<const Plugin* (*)()>(object.symbol("kvlab_plugin"));
  KVLAB_REQUIRE(entry != nullptr, "E_PLUGIN", who,
                " has no symbol `kvlab_plugin`; core/plugin.h shows how to define it");
  const Plugin* plugin = entry();
  KVLAB_REQUIRE(plugin != nullptr && plugin->magic == kPluginMagic, "E_PLUGIN", who,
                " does not describe itself as a kvlab plugin (magic number); use KVLAB_PLUGIN");
  KVLAB_REQUIRE(plugin->struct_bytes == sizeof(Plugin) && plugin->abi != nullptr &&
                    plugin->register_method != nullptr,
                "E_PLUGIN", who, " describes itself in another form (", plugin->struct_bytes,
                " bytes, expected are ", sizeof(Plugin), "); use KVLAB_PLUGIN");
  require_abi(plugin->abi, who);
  return *plugin;
}

}  // namespace

void load_plugin(const std::filesystem::path& path, Registry& registry) {
  const std::string who = "plugin `" + printable(path.native(), 400) + "`";
  {
    const MappedFile file(path);
    KVLAB_REQUIRE(!is_cut_off(file.bytes()), "E_PLUGIN", who, " is cut off; copy it again");
    if (const std::string tag = tag_in(file.bytes()); !tag.empty()) require_abi(tag, who);
  }
  Opened object(std::filesystem::absolute(path), who);  // a bare name would be searched for
  const Plugin& plugin = plugin_of(object, who);
  object.keep();
  plugin.register_method(registry);
}

}  // namespace kvlab
