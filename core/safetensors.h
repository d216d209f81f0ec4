#pragma once
// The safetensors file format: u64 header length, JSON header, tensor bytes.  Read through mmap,
// checked whole before a tensor is handed out; written atomically.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/artifact.h"
#include "core/types.h"

namespace kvlab {

struct SafetensorsEntry {
  std::string name{};
  Dtype dtype = Dtype::f32;
  std::vector<int64_t> shape{};
  Range bytes{};  // inside the data section
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries{};  // by rising offset
  std::map<std::string, std::string> metadata{};
  int64_t data_offset = 0;
};

/// Checks everything the format promises of a file of `file_bytes` bytes that starts with `head`
/// (at least the header): length within the file and 100 MB, strict JSON, known dtypes, sizes that
/// equal shape times dtype without overflow, no duplicate names, tensors that tile the data without
/// overlap or hole.  E_FORMAT names `where` and what is wrong.
SafetensorsHeader parse_safetensors_header(std::span<const u8> head, int64_t file_bytes,
                                           std::string_view where);

/// A mapped file.  Views are read-only and stay valid while owner() lives.  A tensor whose bytes do
/// not lie on a multiple of its element size (legal, but no writer we know of does it) is copied to
/// memory of its own when the file is opened.
class SafetensorsFile {
 public:
  /// E_FILE, E_FORMAT.
  explicit SafetensorsFile(const std::filesystem::path& path);
  const SafetensorsHeader& header() const { return header_; }
  bool has(std::string_view name) const;
  /// E_WEIGHT with the nearest name when there is none, or more dimensions than a view has.
  TensorView tensor(std::string_view name) const;
  std::shared_ptr<const void> owner() const { return memory_; }

 private:
  struct Memory;
  SafetensorsHeader header_{};
  std::string where_{};
  std::shared_ptr<const Memory> memory_{};
  std::map<std::string, size_t, std::less<>> by_name_{};  // index into header_.entries
};

/// Dense CPU tensors with distinct names.  The data section starts at a multiple of 64 and holds
/// the tensors by falling element size, otherwise in the order given, so that all are aligned.
/// E_FILE (disk full, no permission): the old file, if any, is untouched.
void write_safetensors(const std::filesystem::path& path, std::span<const Tensor> tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace kvlab
