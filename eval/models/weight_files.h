#pragma once
// The tensors of a Hugging Face directory: model.safetensors, or the shards that
// model.safetensors.index.json names.  Memory-mapped; nothing is copied.

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/artifact.h"
#include "core/safetensors.h"

namespace kvlab {

class WeightFiles {
 public:
  /// E_FILE: no weights there, or a shard is missing.  E_FORMAT: a file or the index is not what it
  /// claims.  E_WEIGHT: the index names a tensor that its shard does not hold.
  explicit WeightFiles(const std::filesystem::path& directory);

  bool has(std::string_view name) const;
  /// View of the mapped file, which the tensor keeps open.  E_WEIGHT with the nearest name.
  Tensor tensor(std::string_view name) const;
  std::vector<std::string> names() const;  // sorted

  /// "fast:" and a hash of every tensor's name, dtype, shape and first 64 KiB, in the order of
  /// their names: the same for any division into shards.  `salt` goes in as well.
  std::string fingerprint(std::string_view salt) const;

 private:
  void open_index(const std::filesystem::path& path);
  std::string where_;
  std::vector<SafetensorsFile> files_{};
  std::map<std::string, size_t, std::less<>> file_of_{};  // tensor -> files_
};

/// E_NONFINITE naming `what` and its first element that is infinite or not a number.
void check_finite(const TensorView& values, std::string_view what);

}  // namespace kvlab
