#include "eval/models/weight_files.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "eval/models/digest.h"
#include "eval/models/fields.h"
#include "kernels/parallel.h"

namespace kvlab {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr int64_t kFingerprinted = 64 << 10;

/// A shard is a file beside its index; a name that leads elsewhere is an attack or a mistake.
void check_shard_name(const std::string& name, const Fields& index) {
  KVLAB_REQUIRE(!name.empty() && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos &&
                    name != "." && name != "..",
                "E_FORMAT", index.where(), ": `weight_map` names the shard `", printable(name),
                "`, which is no plain file name");
}

template <class Bits>
int64_t first_nonfinite(const Bits* values, int64_t n, Bits exponent) {
  constexpr int64_t kGrain = 1 << 18;
  std::atomic<int64_t> found{n};
  run_ranges(n, kGrain, [&](int64_t first, int64_t last) {
    bool any = false;  // without a branch, so that the loop becomes vector code
    for (int64_t i = first; i < last; ++i) any |= (values[i] & exponent) == exponent;
    if (!any) return;
    const Bits* bad = std::find_if(values + first, values + last,
                                   [=](Bits v) { return (v & exponent) == exponent; });
    int64_t seen = found.load();
    while (bad - values < seen && !found.compare_exchange_weak(seen, bad - values)) continue;
  });
  return found.load();
}

int64_t first_nonfinite(const TensorView& v) {
  const int64_t n = v.numel();
  switch (v.dtype) {
    case Dtype::f32:
      return first_nonfinite<uint32_t>(v.as<const uint32_t>(), n, 0x7f800000u);
    case Dtype::bf16:
      return first_nonfinite<uint16_t>(v.as<const uint16_t>(), n, 0x7f80u);
    case Dtype::f16:
      return first_nonfinite<uint16_t>(v.as<const uint16_t>(), n, 0x7c00u);
    default:
      return n;
  }
}

}  // namespace

WeightFiles::WeightFiles(const std::filesystem::path& directory)
    : where_(printable(directory.native(), 400)) {
  if (std::filesystem::exists(directory / kSingle)) {
    files_.emplace_back(directory / kSingle);
    for (const SafetensorsEntry& entry : files_[0].header().entries) file_of_[entry.name] = 0;
    return;
  }
  KVLAB_REQUIRE(std::filesystem::exists(directory / kIndex), "E_FILE", where_, ": has neither ",
                kSingle, " nor ", kIndex,
                "; weights of another format can be saved as safetensors with transformers");
  open_index(directory / kIndex);
}

void WeightFiles::open_index(const std::filesystem::path& path) {
  const Json json = read_json(path);
  const Fields index(json, printable(path.native(), 400));
  const Fields map = index.object("weight_map");
  std::map<std::string, size_t> opened;
  for (const auto& [name, unused] : map.json().items()) {
    const std::string shard = map.text(name);
    check_shard_name(shard, index);
    const auto [place, is_new] = opened.emplace(shard, files_.size());
    if (is_new) files_.emplace_back(path.parent_path() / shard);
    KVLAB_REQUIRE(files_[place->second].has(name), "E_WEIGHT", index.where(), ": says that `", name,
                  "` is in ", shard, ", but it is not");
    file_of_[name] = place->second;
  }
}

bool WeightFiles::has(std::string_view name) const { return file_of_.contains(name); }

Tensor WeightFiles::tensor(std::string_view name) const {
  const auto found = file_of_.find(name);
  KVLAB_REQUIRE(found != file_of_.end(), "E_WEIGHT", where_, ": has no tensor `", printable(name),
                "`", suggestion(name, names()));
  const SafetensorsFile& file = files_[found->second];
  return {std::string(name), file.tensor(name), std::const_pointer_cast<void>(file.owner())};
}

std::vector<std::string> WeightFiles::names() const {
  std::vector<std::string> all;
  for (const auto& [name, unused] : file_of_) all.push_back(name);
  return all;
}

std::string WeightFiles::fingerprint(std::string_view salt) const {
  Digest digest;
  digest.add(salt);
  for (const auto& [name, file] : file_of_) {
    const TensorView view = files_[file].tensor(name);
    digest.add(name).add(name_of(view.dtype));
    for (int i = 0; i < view.dims; ++i) digest.add(std::to_string(view.size(i)));
    const int64_t bytes = std::min(kFingerprinted, view.numel() * size_of(view.dtype));
    digest.add(std::span(view.as<const u8>(), static_cast<size_t>(bytes)));
  }
  return "fast:" + digest.hex();
}

void check_finite(const TensorView& values, std::string_view what) {
  KVLAB_CHECK(values.is_contiguous());
  const int64_t bad = first_nonfinite(values);
  KVLAB_REQUIRE(bad == values.numel(), "E_NONFINITE", what, ": element ", bad, " of ",
                values.numel(), " is infinite or not a number");
}

}  // namespace kvlab
