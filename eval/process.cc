#include "eval/process.h"

#include <malloc.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <set>

extern char** environ;

namespace kvlab {
namespace {

/// The value of a line "name: value" or "name\t: value"; empty when there is none.
std::string field(const char* file, std::string_view name) {
  std::ifstream lines(file);
  std::string line;
  while (std::getline(lines, line)) {
    if (!line.starts_with(name)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

/// "1234 kB" in bytes, 0 when absent.
int64_t kilobytes(const std::string& text) {
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value * 1024;
}

int64_t physical_cores() {
  std::ifstream lines("/proc/cpuinfo");
  std::string line, package;
  std::set<std::string> cores;
  while (std::getline(lines, line)) {
    if (line.starts_with("physical id")) package = line;
    if (line.starts_with("core id")) cores.insert(package + line);
  }
  return static_cast<int64_t>(cores.size());
}

int64_t numa_nodes() {
  std::error_code error;
  int64_t nodes = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/node", error)) {
    const std::string name = entry.path().filename();
    nodes += name.starts_with("node") && name.find_first_not_of("0123456789", 4) == name.npos;
  }
  return std::max<int64_t>(nodes, 1);
}

Json affinity() {
  cpu_set_t set;
  Json cpus = Json::array();
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

Json environment() {
  constexpr std::array<std::string_view, 6> kPrefixes = {"OMP_",   "MKL_",  "KVLAB_",
                                                         "TORCH_", "CUDA_", "GOMP_"};
  Json found = Json::object();
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const size_t equals = text.find('=');
    const bool matters = std::any_of(kPrefixes.begin(), kPrefixes.end(),
                                     [&](std::string_view p) { return text.starts_with(p); });
    if (matters && equals != text.npos)
      found[std::string(text.substr(0, equals))] = text.substr(equals + 1);
  }
  return found;
}

}  // namespace

int64_t resident_bytes() { return kilobytes(field("/proc/self/status", "VmRSS")); }

int64_t peak_resident_bytes() {
  if (const int64_t peak = kilobytes(field("/proc/self/status", "VmHWM")); peak > 0) return peak;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

void reset_peak_resident() { std::ofstream("/proc/self/clear_refs") << 5; }

int64_t heap_bytes() {
  const struct mallinfo2 info = ::mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

Json describe_machine() {
  utsname kernel{};
  uname(&kernel);
  return {{"cpu", field("/proc/cpuinfo", "model name")},
          {"logical_cpus", sysconf(_SC_NPROCESSORS_ONLN)},
          {"physical_cores", physical_cores()},
          {"affinity", affinity()},
          {"numa_nodes", numa_nodes()},
          {"memory_bytes", kilobytes(field("/proc/meminfo", "MemTotal"))},
          {"kernel", std::string(kernel.sysname) + " " + kernel.release + " " + kernel.machine},
          {"environment", environment()}};
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace kvlab
