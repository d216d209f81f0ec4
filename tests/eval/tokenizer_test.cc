#include "eval/tokenizer.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <fstream>
#include <optional>

#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab {
namespace {

using test::error_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

/// Words and their ids, nothing trained; puts <s> before a text.
constexpr const char* kWords = R"({
  "version": "1.0",
  "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
  "padding": null,
  "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true}],
  "normalizer": null,
  "pre_tokenizer": {"type": "WhitespaceSplit"},
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
  "decoder": null,
  "model": {"type": "WordLevel", "unk_token": "?",
            "vocab": {"<s>": 0, "?": 1, "der": 2, "grüne": 3, "Baum": 4}}})";

/// An environment variable that holds until the end of the test.
class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) {
    if (const char* was = ::getenv(name)) was_ = was;
    ::setenv(name, value, 1);
  }
  ~Setting() { was_ ? ::setenv(name_, was_->c_str(), 1) : ::unsetenv(name_); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
  std::optional<std::string> was_{};
};

class TokenizerOf : public testing::Test {
 protected:
  TokenizerOf() { std::ofstream(folder_ / "tokenizer.json") << kWords; }
  test::Scratch folder_{};
};

TEST_F(TokenizerOf, TurnsTextIntoTokensAndBack) {
  ModelTokenizer tokenizer(folder_.path());
  EXPECT_THAT(tokenizer.encode("der grüne Baum\nder Wald", Tokenizer::Special::none),
              ElementsAre(2, 3, 4, 2, 1));
  EXPECT_THAT(tokenizer.encode("Baum", Tokenizer::Special::as_model), ElementsAre(0, 4));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{3, 4}), "grüne Baum");
  EXPECT_EQ(tokenizer.vocab_size(), 5);
}

TEST_F(TokenizerOf, SaysWhichBytesATokenStandsFor) {
  ModelTokenizer tokenizer(folder_.path());
  const TokenSpans spans = tokenizer.encode_spans("der grüne Baum", Tokenizer::Special::as_model);
  EXPECT_THAT(spans.tokens, ElementsAre(0, 2, 3, 4));
  const auto span = [](int64_t first, int64_t last) {
    return testing::AllOf(testing::Field(&Range::first, first), testing::Field(&Range::last, last));
  };
  EXPECT_THAT(spans.bytes, ElementsAre(span(0, 0), span(0, 3), span(4, 10), span(11, 15)));
}

TEST_F(TokenizerOf, IgnoresATruncationLeftFromTraining) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "der ";
  EXPECT_EQ(ModelTokenizer(folder_.path()).encode(text, Tokenizer::Special::none).size(), 5000u);
}

TEST_F(TokenizerOf, RefusesTextThatIsNotUtf8) {
  ModelTokenizer tokenizer(folder_.path());
  EXPECT_THAT(error_of([&] { tokenizer.encode("der \xFF", Tokenizer::Special::none); }),
              StartsWith("E_FORMAT: text: byte 4 "));
  EXPECT_THAT(tokenizer.encode("der", Tokenizer::Special::none), ElementsAre(2));
}

TEST_F(TokenizerOf, SaysWhatIsWrongWithItsFile) {
  std::ofstream(folder_ / "tokenizer.json") << "{\"version\": 7}";
  EXPECT_THAT(error_of([&] { ModelTokenizer{folder_.path()}; }),
              AllOf(StartsWith("E_FORMAT: "), HasSubstr("tokenizer.json")));
}

TEST_F(TokenizerOf, NamesThePythonThatCannotReadIt) {
  {
    const Setting setting("KVLAB_PYTHON", "/nonexistent/python3");
    EXPECT_THAT(error_of([&] { ModelTokenizer{folder_.path()}; }),
                AllOf(StartsWith("E_NO_TOKENIZER: KVLAB_PYTHON is /nonexistent/python3"),
                      HasSubstr("tokens instead of text")));
  }
  std::ofstream(folder_ / "python3") << "#!/bin/sh\n"
                                        "echo '{\"missing\": \"tokenizers\"}'\n";
  std::filesystem::permissions(folder_ / "python3", std::filesystem::perms::owner_all);
  const Setting setting("KVLAB_PYTHON", (folder_ / "python3").c_str());
  EXPECT_THAT(error_of([&] { ModelTokenizer{folder_.path()}; }),
              AllOf(StartsWith("E_NO_TOKENIZER: "), HasSubstr("has no package `tokenizers`"),
                    HasSubstr("-m pip install tokenizers")));
}

TEST(Tokenizer, ThatIsNotThereSuggestsATokenFile) {
  const test::Scratch folder;
  EXPECT_THAT(error_of([&] { ModelTokenizer{folder.path()}; }),
              AllOf(StartsWith("E_NO_TOKENIZER: "),
                    HasSubstr("has neither tokenizer.json nor tokenizer.model"),
                    HasSubstr("JSON list of integers")));
}

}  // namespace
}  // namespace kvlab
