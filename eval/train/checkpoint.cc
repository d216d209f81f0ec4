#include "eval/train/checkpoint.h"

#include <c10/core/GradMode.h>

#include <algorithm>
#include <functional>

#include "core/error.h"
#include "core/safetensors.h"
#include "core/torch.h"
#include "eval/models/weight_files.h"

namespace kvlab {
namespace {

constexpr const char* kKey = "kvlab_training";

void fill(const NamedParameter& parameter, const TensorView& stored, const std::string& where) {
  const at::Tensor from = to_torch(stored);
  KVLAB_REQUIRE(from.sizes() == parameter.value.sizes(), "E_SHAPE", where, ": tensor `",
                parameter.name, "` has another shape than this model's");
  parameter.value.detach().copy_(from);
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const std::vector<NamedParameter>& state,
                     const Json& about) {
  const c10::NoGradGuard no_grad;
  std::vector<Tensor> tensors;
  for (const NamedParameter& entry : state)
    tensors.push_back(hold(entry.name, entry.value.detach().cpu().contiguous()));
  try {
    write_safetensors(path, tensors, {{kKey, canonical(about)}});
  } catch (const Error& error) {
    fail("E_DISK", error.message(),
         "; the checkpoint before is kept: make room, then run the same ", "command again");
  }
}

Json load_checkpoint(const std::filesystem::path& path, const std::vector<NamedParameter>& state) {
  const c10::NoGradGuard no_grad;
  const std::string where = printable(path.native(), 400);
  const SafetensorsFile file(path);
  const auto about = file.header().metadata.find(kKey);
  KVLAB_REQUIRE(about != file.header().metadata.end(), "E_FORMAT", where,
                ": is no checkpoint of kvlab train; move it away");
  Json json = parse_json(about->second, where + ": " + kKey);
  for (const NamedParameter& entry : state) {
    const TensorView stored = file.tensor(entry.name);
    KVLAB_REQUIRE(scalar_type(stored.dtype) == entry.value.scalar_type(), "E_SHAPE", where,
                  ": tensor `", entry.name, "` is ", name_of(stored.dtype),
                  ", not this model's type");
    fill(entry, stored, where);
  }
  return json;
}

void load_weights(const std::filesystem::path& path,
                  const std::vector<NamedParameter>& parameters) {
  const c10::NoGradGuard no_grad;
  const std::string where = printable(path.native(), 400);
  if (std::filesystem::is_directory(path)) {
    const WeightFiles files(path);
    for (const NamedParameter& p : parameters) fill(p, files.tensor(p.name).view, where);
    return;
  }
  const SafetensorsFile file(path);
  for (const NamedParameter& p : parameters) fill(p, file.tensor(p.name), where);
}

}  // namespace kvlab
