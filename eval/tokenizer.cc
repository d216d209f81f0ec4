#include "eval/tokenizer.h"

#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "eval/child_process.h"
#include "eval/python.h"
#include "eval/text.h"
#include "eval/tokenizer_script.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPackages = "the packages `tokenizers` and `sentencepiece`";
constexpr std::string_view kInstead =
    "; or give tokens instead of text: a file with a JSON list of integers";

fs::path tokenizer_file(const fs::path& directory) {
  for (const char* name : {"tokenizer.json", "tokenizer.model"})
    if (fs::exists(directory / name)) return directory / name;
  fail("E_NO_TOKENIZER", printable(directory.native(), 400),
       ": has neither tokenizer.json nor tokenizer.model", kInstead);
}

}  // namespace

struct ModelTokenizer::Impl {
  fs::path file;
  fs::path python;
  ChildProcess child;
  std::string sha256{};
  int64_t vocab_size = 0;

  explicit Impl(const fs::path& directory)
      : file(fs::absolute(tokenizer_file(directory))),
        python(find_python("E_NO_TOKENIZER", kPackages, kInstead)),
        child("tokenizer (" + python.string() + ")", python,
              {"-P", "-c", std::string(kTokenizerScript), file.string()}) {
    const Json greeting = read();
    if (greeting.contains("missing"))
      fail("E_NO_TOKENIZER", python.string(), ": has no package `",
           greeting["missing"].get<std::string>(), "`; install it (", python.string(),
           " -m pip install tokenizers sentencepiece) or set KVLAB_PYTHON", kInstead);
    vocab_size = greeting.at("vocab_size").get<int64_t>();
    sha256 = greeting.at("sha256").get<std::string>();
  }

  Json read() {
    const Json answer = parse_json(child.read_line(), "tokenizer");
    if (answer.contains("error"))
      fail("E_FORMAT", file.string(), ": ", answer["error"].get<std::string>());
    return answer;
  }

  Json ask(const Json& request) {
    child.write_line(request.dump());
    return read();
  }
};

std::string Tokenizer::chat(std::string_view) {
  fail("E_UNSUPPORTED", "tokenizer ", sha256(), ": it has no chat template");
}

ModelTokenizer::ModelTokenizer(const fs::path& model_directory)
    : impl_(std::make_unique<Impl>(model_directory)) {}
ModelTokenizer::~ModelTokenizer() = default;
ModelTokenizer::ModelTokenizer(ModelTokenizer&&) noexcept = default;
ModelTokenizer& ModelTokenizer::operator=(ModelTokenizer&&) noexcept = default;

TokenSpans ModelTokenizer::encode_spans(std::string_view text, Special special) {
  const int64_t bad = first_invalid_utf8(text);
  KVLAB_REQUIRE(bad < 0, "E_FORMAT", "text: byte ", bad, " begins no UTF-8 character");
  const Json answer = impl_->ask({{"encode", text}, {"special", special == Special::as_model}});
  TokenSpans spans{.tokens = answer.at("tokens").get<std::vector<int32_t>>()};
  for (const Json& span : answer.at("bytes")) spans.bytes.push_back({span.at(0), span.at(1)});
  KVLAB_CHECK(spans.bytes.size() == spans.tokens.size());
  return spans;
}

std::string ModelTokenizer::decode(std::span<const int32_t> tokens) {
  const Json ids(std::vector<int32_t>(tokens.begin(), tokens.end()));
  return impl_->ask({{"decode", ids}}).at("text").get<std::string>();
}

std::string ModelTokenizer::chat(std::string_view prompt) {
  const Json answer = impl_->ask({{"chat", prompt}});
  KVLAB_REQUIRE(answer.contains("text"), "E_UNSUPPORTED", impl_->file.string(),
                ": no chat template lies beside it (chat_template.jinja, or `chat_template` in ",
                "tokenizer_config.json); give the task file one of its own around {prompt}");
  return answer.at("text");
}

const fs::path& ModelTokenizer::file() const { return impl_->file; }
const std::string& ModelTokenizer::sha256() const { return impl_->sha256; }
int64_t ModelTokenizer::vocab_size() const { return impl_->vocab_size; }

}  // namespace kvlab
