#include "core/artifact.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "core/files.h"
#include "core/safetensors.h"

namespace kvlab {
namespace {

constexpr const char* kHeaderKey = "kvlab_artifact";

std::vector<std::string> names_of(std::span<const Tensor> tensors) {
  std::vector<std::string> names;
  for (const Tensor& tensor : tensors) names.push_back(tensor.name);
  return names;
}

void check_header(const Json& header) {
  const auto holds = [&](const char* key, Json::value_t type) {
    return header.is_object() && header.contains(key) && header[key].type() == type;
  };
  for (const char* key : {"method", "model"})
    KVLAB_REQUIRE(holds(key, Json::value_t::string), "E_FORMAT", "artifact: its header needs `",
                  key, "`, a string");
  KVLAB_REQUIRE(holds("method_params", Json::value_t::object), "E_FORMAT",
                "artifact: its header needs `method_params`, an object");
}

}  // namespace

Tensor make_tensor(std::string name, Dtype dtype, std::span<const int64_t> sizes) {
  constexpr int64_t kAlignment = 64;
  int64_t bytes = size_of(dtype);
  bool fits = true;
  for (const int64_t size : sizes) fits = fits && !__builtin_mul_overflow(bytes, size, &bytes);
  KVLAB_CHECK(!fits || bytes >= 0);
  void* data = nullptr;
  if (fits && bytes <= PTRDIFF_MAX - kAlignment)
    data =
        std::aligned_alloc(kAlignment, static_cast<size_t>((bytes / kAlignment + 1) * kAlignment));
  KVLAB_REQUIRE(data != nullptr, "E_MEMORY", "tensor `", printable(name), "`: no memory for ",
                fits ? std::to_string(bytes) : "more than 2^63", " bytes");
  std::memset(data, 0, static_cast<size_t>(bytes));
  return {.name = std::move(name),
          .view = dense_view(data, dtype, sizes),
          .owner = std::shared_ptr<void>(data, std::free)};
}

Tensor make_tensor(std::string name, Dtype dtype, std::initializer_list<int64_t> sizes) {
  return make_tensor(std::move(name), dtype, std::span<const int64_t>(sizes.begin(), sizes.size()));
}

Artifact::Artifact(Json header, std::vector<Tensor> tensors)
    : header_(std::move(header)), tensors_(std::move(tensors)) {
  check_header(header_);
}

TensorView Artifact::tensor(std::string_view name) const {
  const auto found = std::ranges::find(tensors_, name, &Tensor::name);
  if (found != tensors_.end()) return found->view;
  fail("E_WEIGHT", "artifact of `", header_["method"].get<std::string>(), "`: has no tensor `",
       printable(name), "`", suggestion(name, names_of(tensors_)));
}

bool Artifact::has(std::string_view name) const {
  return std::ranges::find(tensors_, name, &Tensor::name) != tensors_.end();
}

void Artifact::save(const std::filesystem::path& path) const {
  write_safetensors(path, tensors_, {{kHeaderKey, canonical(header_)}});
}

Artifact Artifact::load(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto header = file.header().metadata.find(kHeaderKey);
  const std::string where = printable(path.native(), 400);
  KVLAB_REQUIRE(header != file.header().metadata.end(), "E_FORMAT", where,
                ": is a safetensors file but no kvlab artifact (no `", kHeaderKey,
                "` in its metadata); `kvlab prepare` writes one");
  std::vector<Tensor> tensors;
  const auto owner = std::const_pointer_cast<void>(file.owner());
  for (const SafetensorsEntry& entry : file.header().entries)
    tensors.push_back({.name = entry.name, .view = file.tensor(entry.name), .owner = owner});
  return Artifact(parse_json(header->second, where + ": " + kHeaderKey), std::move(tensors));
}

void Artifact::check_for(std::string_view method, std::string_view fingerprint) const {
  const auto made_by = header_["method"].get<std::string>();
  const auto made_for = header_["model"].get<std::string>();
  KVLAB_REQUIRE(made_by == method, "E_STALE_ARTIFACT", "artifact: was made by method `",
                printable(made_by), "`, not by `", method, "`; run `kvlab prepare` again");
  KVLAB_REQUIRE(made_for == fingerprint, "E_STALE_ARTIFACT", "artifact of `", made_by,
                "`: was made for model ", printable(made_for), ", but this is model ", fingerprint,
                "; run `kvlab prepare` for this model");
}

}  // namespace kvlab
