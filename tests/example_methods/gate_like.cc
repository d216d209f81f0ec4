// A gate per kv head looks at the hidden state of a token: what it closes on dies when it leaves
// the head's window.

#include <memory>

#include "tests/example_methods/example_methods.h"

namespace kvlab::test {
namespace {

constexpr int kGate = 8;

class Gate final : public Select {
 public:
  explicit Gate(int64_t recent) : recent_(recent) {}
  Selection selection(int) const override {
    return {
        .granularity = Scope::head, .coarsens = true, .flags = true, .sinks = 1, .recent = recent_};
  }
  Needs needs(int, int64_t) const override { return Needs::hidden; }
  void admit(const Append& append, NewRows& out) const override {
    const TensorView keep = out.keep();
    const int64_t width = append.hidden.size(1);
    for (int64_t row = 0; row < keep.size(0); ++row)
      for (int64_t head = 0; head < keep.size(1); ++head) {
        const float* hidden = reinterpret_cast<const float*>(append.hidden.at(row));
        float sum = 0;
        for (int64_t j = 0; j < width; ++j)
          sum += map_entry(kGate, 17 * append.layer + head, j, 1.0) * hidden[j];
        keep.at(row)[head * keep.stride(1)] = sum > 0;
      }
  }

 private:
  int64_t recent_;
};

}  // namespace

void register_gate_like(Registry& registry) {
  registry.add(Method{
      .name = "gate_like",
      .summary = "A gate per head decides which rows outlive a window.",
      .schema = R"({"recent": {"type": "integer", "default": 3, "minimum": 1, "maximum": 1000000,
                    "unit": "token", "doc": "newest tokens every head keeps"}})",
      .capabilities = [](const Setup&) { return Capabilities{.needs = Needs::hidden}; },
      .stages =
          [](const Setup& setup) {
            return Stages{.select = std::make_shared<Gate>(setup.params->at("recent"))};
          }});
}

}  // namespace kvlab::test
