#include "eval/corpus/build.h"

#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "eval/child_process.h"
#include "eval/corpus/config.h"
#include "eval/corpus/recall/write.h"
#include "eval/corpus/text_script.h"
#include "eval/python.h"
#include "eval/random.h"
#include "eval/sha256.h"
#include "eval/synthetic/haystack.h"
#include "eval/text.h"

namespace kvlab::corpus {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFacts = "corpus.json";
constexpr const char* kWords = "words.txt";  // of the training text, for recall documents; removed

/// What the Python half answers to a configuration.
Json ask_python(const Json& config, const std::string& argument,
                const std::function<void(const std::string&)>& step) {
  const fs::path python =
      find_python("E_PACKAGE", "the packages of the corpus", "; `./run --setup test` makes one");
  ChildProcess child("corpus (" + python.string() + ")", python,
                     {"-P", "-c", std::string(kTextScript), argument});
  child.write_line(config.dump());
  for (;;) {
    const Json answer = parse_json(child.read_line(), "corpus");
    if (answer.contains("error"))
      fail(answer.at("code").get<std::string>(), "corpus: ", answer["error"].get<std::string>());
    if (answer.contains("done")) return answer["done"];
    step(answer.at("step"));
  }
}

/// A folder beside `out` that becomes `out`, or goes.
class NewFolder {
 public:
  explicit NewFolder(fs::path out)
      : out_(std::move(out)), path_(beside("partial")), old_(beside("old")) {
    KVLAB_REQUIRE(!fs::exists(out_) || fs::exists(out_ / kFacts) ||
                      (fs::is_directory(out_) && fs::is_empty(out_)),
                  "E_FILE", out_.string(), ": exists and is no corpus; name another folder");
    std::error_code error;
    fs::create_directories(path_, error);
    if (error) fail("E_FILE", path_.string(), ": cannot be made (", error.message(), ")");
  }
  ~NewFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    fs::remove_all(old_, ignored);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  const fs::path& path() const { return path_; }
  void commit() {
    std::error_code error;
    if (fs::exists(out_)) fs::rename(out_, old_, error);
    if (!error) fs::rename(path_, out_, error);
    if (error) fail("E_FILE", out_.string(), ": cannot be replaced (", error.message(), ")");
  }

 private:
  /// Of this process alone: two builds do not write into each other's.
  fs::path beside(const char* what) const {
    return out_.string() + "." + what + "-" + std::to_string(::getpid());
  }
  fs::path out_, path_, old_;
};

Json digests(const fs::path& folder) {
  Json files = Json::object();
  for (const auto& entry : fs::directory_iterator(folder)) {
    const FileDigest digest = digest_file(entry.path());
    files[entry.path().filename().string()] = {{"sha256", digest.sha256}, {"bytes", digest.bytes}};
  }
  return files;
}

fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

Json build(const Json& given, const fs::path& config_path, const fs::path& out,
           const RunObserver& observer) {
  const Config config = parse_config(given, config_path.string());
  NewFolder folder(without_slash(fs::absolute(out)));
  Json request = config.whole;
  request["recall_sample"] = sample_texts(config);
  Json facts = ask_python(request, folder.path().string(), observer.step);
  const auto tokenizer = std::make_shared<ModelTokenizer>(folder.path());
  KVLAB_REQUIRE(tokenizer->vocab_size() == config.vocabulary, "E_CONFIG",
                "text: the tokenizer has ", tokenizer->vocab_size(), " entries, `vocabulary` is ",
                config.vocabulary, "; ask for fewer, or for more text");
  const Source source(split_words(read_text(folder.path() / kWords)));
  observer.step("recall documents");
  facts["recall"] =
      write_recall(config, tokenizer, source, folder.path(), [&](int64_t done, int64_t all) {
        observer.progress(done, all, "recall documents");
        KVLAB_REQUIRE(!observer.interrupted(), "E_INTERRUPTED",
                      "corpus: stopped; the same command begins again");
      });
  fs::remove(folder.path() / kWords);
  facts["schema"] = kConfigSchema;
  facts["config"] = config.whole;
  facts["random"] = kRandomScheme;
  facts["files"] = digests(folder.path());
  write_file(folder.path() / kFacts, facts.dump(1) + "\n");
  folder.commit();
  return facts;
}

Json pin(const Json& given, const fs::path& config_path) {
  Json config = given;
  if (config.is_object() && config.contains("packages") && config["packages"].is_array())
    for (Json& package : config["packages"])
      if (package.is_object())
        for (const char* key : {"version", "sha256"}) package.emplace(key, "");
  return ask_python(parse_config(config, config_path.string()).whole, "--pin",
                    [](const std::string&) {});
}

}  // namespace kvlab::corpus
