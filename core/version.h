#pragma once
// Which kvlab this is: what `kvlab --version` and every record of a run say.

#include <string_view>

namespace kvlab {

struct Version {
  std::string_view number;    // "0.1.0"
  std::string_view commit;    // 12 hex digits, "-dirty" when files differ from it, or "unknown"
  std::string_view build;     // "Release", "RelWithDebInfo (thread)", ...
  std::string_view compiler;  // "GNU 12.2.0"
  std::string_view torch;     // of the wheel it was built against
};

const Version& version();

}  // namespace kvlab
