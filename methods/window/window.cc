// StreamingLLM (arXiv 2309.17453): the first few tokens and the newest ones; everything between is
// dropped the moment it leaves the window.

#include <memory>

#include "core/registry.h"

namespace kvlab::window {
namespace {

constexpr const char* kSchema = R"json({
  "sink": {"type": "integer", "default": 4, "minimum": 0, "maximum": 1000000, "unit": "token",
           "doc": "tokens at the start of the sequence that are never dropped"},
  "recent": {"type": "integer", "default": 1020, "minimum": 1, "maximum": 1000000000,
             "unit": "token", "doc": "newest tokens kept, the query's own included"},
  "positions": {"type": "string", "default": "original", "choices": ["original", "reindexed"],
                "doc": "original: kept keys stay rotated at their true positions; reindexed: positions are counted inside the cache, keys being stored before RoPE"}
})json";

struct Params {
  int64_t sink = 0, recent = 1;
  bool reindexed = false;

  explicit Params(const Json& json)
      : sink(json.at("sink")),
        recent(json.at("recent")),
        reindexed(json.at("positions") == "reindexed") {}
};

/// No row is asked to stay; core protects the sinks and the newest rows.
class Window final : public Select {
 public:
  explicit Window(const Params& params) : params_(params) {}

  Selection selection(int /*layer*/) const override {
    return {.granularity = Scope::layer,
            .flags = true,
            .sinks = params_.sink,
            .recent = params_.recent,
            .reindexes = params_.reindexed};
  }

  void admit(const Append& append, NewRows& out) const override {
    const TensorView keep = out.keep();
    std::fill_n(keep.as<u8>(), append.rows.size(), u8{0});
  }

 private:
  Params params_;
};

Capabilities capabilities(const Setup& setup) {
  return {.unrotated_keys = Params(*setup.params).reindexed};
}

Stages stages(const Setup& setup) {
  return {.select = std::make_shared<Window>(Params(*setup.params))};
}

}  // namespace

void register_method(Registry& registry) {
  registry.add(
      Method{.name = "window",
             .summary = "Attention sinks and a window of the newest tokens (StreamingLLM).",
             .schema = kSchema,
             .capabilities = capabilities,
             .stages = stages});
}

}  // namespace kvlab::window
