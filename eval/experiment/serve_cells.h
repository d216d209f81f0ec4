#pragma once
// What a worker of `--jobs` does, and how it is spoken to: JSON, one message a line.
//
//   to it, once:     {"schema": "kvlab-worker/1", "config", "folder", "threads", "pool", "jobs"}
//   to it, a cell:   {"cell": ID, "model_sha"}
//   from it:         {"step": TEXT}           something slow begins
//                    {"fed": TOKENS}          since the last such line
//                    {"finished": CELL}       the content of cells/<id>.json
//                    {"error": {"code", "message"}}
//
// A worker writes no file.  It makes the data of its cells anew, from the same config; whoever
// asked compares their digests with its own.

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "eval/experiment/cell_runner.h"

namespace kvlab {

inline constexpr std::string_view kWorkerSchema = "kvlab-worker/1";

/// The first message.
Json worker_greeting(const Experiment& experiment, const ThreadShare& share);
/// The message that asks for a cell.
Json worker_request(const PlannedCell& cell);

struct WorkerPipe {
  std::function<std::optional<std::string>()> read{};  // a line; nothing: nobody asks any more
  std::function<void(std::string_view line)> write{};
};

/// Answers until nobody asks any more.  What a cell throws is an answer, and the last one.
void serve_cells(const Registry& registry, const Catalogue& catalogue, const WorkerPipe& pipe);

}  // namespace kvlab
