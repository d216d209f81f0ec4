#pragma once
// What a method's offline step produced: named tensors and a JSON header, one safetensors file.

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/types.h"

namespace kvlab {

/// A tensor that keeps its memory alive.
struct Tensor {
  std::string name{};
  TensorView view{};
  std::shared_ptr<void> owner{};
};
/// Zeroed dense memory of its own.
Tensor make_tensor(std::string name, Dtype dtype, std::initializer_list<int64_t> sizes);

class Artifact {
 public:
  /// header must hold "method", "method_params" and "model" (the fingerprint it was made for).
  Artifact(Json header, std::vector<Tensor> tensors);

  const Json& header() const { return header_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  /// E_WEIGHT naming the artifact's tensors when there is none of this name.
  TensorView tensor(std::string_view name) const;
  bool has(std::string_view name) const;

  /// Written to a temporary name, then renamed.
  void save(const std::filesystem::path& path) const;
  static Artifact load(const std::filesystem::path& path);

  /// E_STALE_ARTIFACT with both values unless it was made by `method` for model `fingerprint`.
  void check_for(std::string_view method, std::string_view fingerprint) const;

 private:
  Json header_{};
  std::vector<Tensor> tensors_{};
};

}  // namespace kvlab
