#include "eval/model_files.h"

#include <algorithm>

#include "core/error.h"
#include "eval/sha256.h"
#include "eval/text.h"
#include "eval/token_file.h"
#include "eval/tokenizer.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;

bool is_part(const fs::path& path) {
  const std::string name = path.filename();
  return name == "config.json" || name == "generation_config.json" ||
         name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
}

Json digest_json(const fs::path& path) {
  if (!fs::is_regular_file(path)) return {{"path", path.string()}};  // a pipe can be read only once
  const FileDigest digest = digest_file(path);
  return {{"path", path.string()}, {"sha256", digest.sha256}, {"bytes", digest.bytes}};
}

}  // namespace

Json digest_model(const Json& spec) {
  Json files = Json::array();
  if (!spec.contains("path")) return files;
  std::vector<fs::path> parts;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(spec.at("path").get<std::string>(), error)) {
    if (is_part(entry.path())) parts.push_back(entry.path());
  }
  std::sort(parts.begin(), parts.end());
  for (const fs::path& part : parts) files.push_back(digest_json(part));
  return files;
}

std::string model_sha(const Json& spec, const Json& files) {
  if (files.empty()) return sha256_hex(canonical(spec));
  std::string all;
  for (const Json& file : files) {
    all += fs::path(file.at("path").get<std::string>()).filename().string() + " " +
           file.at("sha256").get<std::string>() + "\n";
  }
  return sha256_hex(all);
}

std::shared_ptr<Tokenizer> tokenizer_of(const Json& spec, std::string_view why) {
  KVLAB_REQUIRE(spec.contains("path"), "E_NO_TOKENIZER", "model ", spec.dump(),
                " has no tokenizer to ", why, " with; give a token file instead ",
                "(--tokens, \"tokens\"), or a token task such as mqar");
  return std::make_shared<ModelTokenizer>(spec.at("path").get<std::string>());
}

Text read_text_tokens(Tokenizer& tokenizer, const fs::path& path) {
  const std::string contents = read_text(path);
  Text text{.tokens = tokenizer.encode(contents, Tokenizer::Special::none)};
  text.tokenizer_adds_bos = !tokenizer.encode("", Tokenizer::Special::as_model).empty();
  text.files.push_back(digest_json(path));
  text.tokenizer_sha = tokenizer.sha256();
  return text;
}

Text read_token_text(const fs::path& path, int64_t vocab_size) {
  Text text{.tokens = read_token_file(path, vocab_size)};
  text.files.push_back(digest_json(path));
  return text;
}

}  // namespace kvlab
