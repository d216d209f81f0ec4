#include "eval/train/token_sources.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/files.h"

namespace kvlab {

struct TokenSource::Files {
  MappedFile tokens;
  std::optional<MappedFile> marks{};
  explicit Files(const std::filesystem::path& path) : tokens(path) {}
};

TokenSource::TokenSource(const std::filesystem::path& tokens, const std::filesystem::path& marks)
    : files_(std::make_unique<Files>(tokens)) {
  const std::span<const u8> bytes = files_->tokens.bytes();
  KVLAB_REQUIRE(bytes.size() % 2 == 0 && !bytes.empty(), "E_FORMAT",
                printable(tokens.native(), 400), ": holds ", bytes.size(),
                " bytes, must be tokens of 2 bytes each");
  tokens_ = {reinterpret_cast<const uint16_t*>(bytes.data()), bytes.size() / 2};
  if (marks.empty()) return;
  files_->marks.emplace(marks);
  marks_ = files_->marks->bytes();
  KVLAB_REQUIRE(marks_.size() == tokens_.size(), "E_FORMAT", printable(marks.native(), 400),
                ": holds ", marks_.size(), " marks for ", tokens_.size(), " tokens");
}
TokenSource::~TokenSource() = default;
TokenSource::TokenSource(TokenSource&&) noexcept = default;

void TokenSource::split(int32_t begin, const std::string& where) {
  KVLAB_REQUIRE(tokens_[0] == begin, "E_FORMAT", where, ": begins with token ", tokens_[0],
                ", must begin with the model's `bos_token_id` = ", begin);
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i] != begin) continue;
    if (!documents_.empty()) documents_.back().last = static_cast<int64_t>(i);
    documents_.push_back({static_cast<int64_t>(i), static_cast<int64_t>(tokens_.size())});
  }
}

TokenSources::TokenSources(std::filesystem::path directory, int64_t vocab_size, int32_t begin)
    : directory_(std::move(directory)), vocab_size_(vocab_size), begin_(begin) {}

const TokenSource& TokenSources::at(const std::string& name) {
  if (const auto found = open_.find(name); found != open_.end()) return found->second;
  KVLAB_REQUIRE(name == "text" || name == "text-valid" || is_recall(name), "E_CONFIG",
                "train: source `", printable(name), "` is not known; known: text, recall-LENGTH");
  const std::filesystem::path path = directory_ / ((name == "text" ? "text-train" : name) + ".bin");
  TokenSource source(path, is_recall(name) ? directory_ / (name + ".marks") : "");
  const uint16_t largest = *std::ranges::max_element(source.tokens());
  KVLAB_REQUIRE(largest < vocab_size_, "E_FORMAT", printable(path.native(), 400), ": token ",
                largest, " is outside the model's vocabulary, 0..", vocab_size_ - 1);
  if (is_recall(name)) source.split(begin_, printable(path.native(), 400));
  return open_.emplace(name, std::move(source)).first->second;
}

bool is_recall(std::string_view source) { return source.starts_with("recall-"); }

}  // namespace kvlab
