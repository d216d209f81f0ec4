#include "eval/train/export.h"

#include "core/error.h"
#include "core/files.h"
#include "core/safetensors.h"
#include "core/torch.h"

namespace kvlab {

void export_model(const std::filesystem::path& directory, const Json& model,
                  const std::vector<NamedParameter>& parameters,
                  const std::filesystem::path& corpus) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  KVLAB_REQUIRE(std::filesystem::is_directory(directory), "E_DISK", directory.string(),
                ": cannot be made: ", error.message());
  Json config = model;
  config.erase("torch_dtype");
  config["dtype"] = "bfloat16";
  write_file(directory / "config.json", config.dump(2) + "\n");
  std::vector<Tensor> tensors;
  for (const NamedParameter& p : parameters)
    tensors.push_back(hold(p.name, p.value.detach().cpu().to(at::kBFloat16).contiguous()));
  write_safetensors(directory / "model.safetensors", tensors, {{"format", "pt"}});
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    if (!std::filesystem::exists(corpus / name)) continue;
    write_file(directory / name, read_file(corpus / name, int64_t{64} << 20));
  }
}

}  // namespace kvlab
