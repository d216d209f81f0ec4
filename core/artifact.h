#pragma once
// What a method's offline step produced: named tensors and a JSON header, one safetensors file.

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <span>
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
/// Zeroed dense memory of its own, 64-aligned.  E_MEMORY when there is not enough.
Tensor make_tensor(std::string name, Dtype dtype, std::span<const int64_t> sizes);
Tensor make_tensor(std::string name, Dtype dtype, std::initializer_list<int64_t> sizes);

class Artifact {
 public:
  /// header must hold "method" (a string), "method_params" (an object) and "model" (a string: the
  /// fingerprint it was made for), else E_FORMAT.
  Artifact(Json header, std::vector<Tensor> tensors);

  const Json& header() const { return header_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  /// E_WEIGHT naming the artifact's tensors when there is none of this name.
  TensorView tensor(std::string_view name) const;
  bool has(std::string_view name) const;

  /// A safetensors file whose metadata holds the header as canonical JSON under
  /// "kvlab_artifact"; written to a temporary name, then renamed.
  void save(const std::filesystem::path& path) const;
  /// E_FILE, E_FORMAT.  Tensors are mapped, not read.
  static Artifact load(const std::filesystem::path& path);

  /// E_STALE_ARTIFACT with both values unless it was made by `method` for model `fingerprint`.
  void check_for(std::string_view method, std::string_view fingerprint) const;

 private:
  Json header_{};
  std::vector<Tensor> tensors_{};
};

}  // namespace kvlab
