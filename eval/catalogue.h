#pragma once
// Tasks, metrics and protocols by name.  A generated table calls every register function
// (register_evaluation, written from the folders of eval/tasks/, eval/metrics/, eval/protocols/).

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "eval/metric.h"
#include "eval/protocol.h"
#include "eval/task.h"

namespace kvlab {

class Catalogue {
 public:
  /// E_CONFIG when the name is taken or not [a-z][a-z0-9_]*.
  void add(Task task);
  void add(Metric metric);
  void add(Protocol protocol);
  /// E_UNKNOWN with the nearest name.
  const Task& task(std::string_view name) const;
  const Metric& metric(std::string_view name) const;
  const Protocol& protocol(std::string_view name) const;
  std::vector<std::string> tasks() const;  // sorted
  std::vector<std::string> protocols() const;
  const std::map<std::string, Metric, std::less<>>& metrics() const { return metrics_; }

 private:
  std::map<std::string, Task, std::less<>> tasks_{};
  std::map<std::string, Metric, std::less<>> metrics_{};
  std::map<std::string, Protocol, std::less<>> protocols_{};
};

void register_evaluation(Catalogue& catalogue);

/// Everything this build contains.
const Catalogue& catalogue();

}  // namespace kvlab
