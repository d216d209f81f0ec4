#include "eval/corpus/config.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/schema.h"
#include "eval/catalogue.h"
#include "eval/corpus/recall/kinds.h"

namespace kvlab::corpus {
namespace {

constexpr const char* kSchemaText = R"({
  "schema": {"type": "string", "choices": ["kvlab-corpus/1"], "doc": "version of this format"},
  "seed": {"type": "integer", "minimum": 0, "doc": "of the recall documents"},
  "packages": {"type": "array", "items": "object", "doc": "name, version, licence, sha256"},
  "text": {"type": "object", "doc": "which files, and what is dropped", "fields": {
    "suffixes": {"type": "array", "items": "string", "doc": "of files that are taken"},
    "exclude": {"type": "array", "items": "string", "default": [],
                "doc": "patterns of paths that are not; * stands for / too"},
    "install": {"type": "string", "doc": "the command that installs the packages"},
    "least_bytes": {"type": "integer", "minimum": 1, "unit": "byte", "doc": "of a file"},
    "most_bytes": {"type": "integer", "minimum": 1, "unit": "byte", "doc": "of a file"},
    "longest_line": {"type": "integer", "minimum": 1, "doc": "characters; above: dropped"},
    "most_digits": {"type": "number", "minimum": 0, "maximum": 1, "doc": "share of characters"},
    "most_non_ascii": {"type": "number", "minimum": 0, "maximum": 1, "doc": "share of characters"},
    "least_letters": {"type": "number", "minimum": 0, "maximum": 1, "doc": "share of characters"},
    "most_seen": {"type": "number", "minimum": 0, "maximum": 1,
                  "doc": "share of a file's shingles in files taken before"},
    "most_seen_held_out": {"type": "number", "minimum": 0, "maximum": 1,
                           "doc": "the same of a file of valid or test"},
    "most_bytes_of_package": {"type": "integer", "minimum": 1, "unit": "byte", "doc": "taken"},
    "split": {"type": "object", "doc": "shares of files", "fields": {
      "valid": {"type": "number", "minimum": 0, "maximum": 0.5, "doc": "share"},
      "test": {"type": "number", "minimum": 0, "maximum": 0.5, "doc": "share"}}},
    "excerpt": {"type": "object", "default": {}, "doc": "of the test text, with licences",
                "fields": {
      "packages": {"type": "array", "items": "string", "default": [],
                   "doc": "whose files may be in it; none: no excerpt"},
      "most_bytes_of_file": {"type": "integer", "default": 25000, "minimum": 1, "unit": "byte",
                             "doc": "longer files are left out"}}},
    "vocabulary": {"type": "integer", "minimum": 257, "maximum": 65536, "doc": "entries"},
    "tokenizer_bytes": {"type": "integer", "minimum": 1, "unit": "byte",
                        "doc": "of text that the tokenizer is trained on"},
    "context": {"type": "integer", "minimum": 1, "unit": "token", "doc": "of the models"}}},
  "recall": {"type": "object", "doc": "generated documents", "fields": {
    "lengths": {"type": "array", "items": "integer", "minimum": 16, "maximum": 1048576,
                "unit": "token", "doc": "of documents, at most"},
    "tokens": {"type": "array", "items": "integer", "minimum": 0, "doc": "for each length"},
    "kinds": {"type": "object", "default": {}, "doc": "shares of documents for each length"},
    "tasks": {"type": "array", "items": "object", "default": [],
              "doc": "{\"builtin\": NAME, ..., \"shares\": [...]}: samples of the harness"},
    "tokenizer_documents": {"type": "integer", "default": 0, "minimum": 0,
                            "doc": "documents that the tokenizer is trained on beside text"}}}})";

Shares shares_of(const Json& given, size_t lengths, const std::string& who) {
  KVLAB_REQUIRE(given.is_array() && given.size() == lengths, "E_CONFIG", who,
                ": shares are a list of ", lengths, " integers, one for each of `lengths`; got ",
                printable(given.dump()));
  Shares shares;
  for (const Json& share : given) {
    KVLAB_REQUIRE(share.is_number_integer() && share >= 0 && share <= 1000000, "E_CONFIG", who,
                  ": a share is an integer from 0 to 1000000; got ", printable(share.dump()));
    shares.push_back(share);
  }
  return shares;
}

RecallTask task_of(Json given, size_t lengths) {
  KVLAB_REQUIRE(given.contains("builtin") && given["builtin"].is_string(), "E_CONFIG",
                "recall.tasks: ", printable(given.dump()),
                " names no task; write {\"builtin\": ", "NAME, ..., \"shares\": [...]}");
  RecallTask task{.name = given["builtin"]};
  catalogue().task(task.name);
  for (const char* fixed : {"length", "samples"})
    KVLAB_REQUIRE(!given.contains(fixed), "E_CONFIG", "recall.tasks: ", task.name, ": `", fixed,
                  "` follows from `lengths` and `tokens`; leave it out");
  task.shares = shares_of(given.value("shares", Json()), lengths, "recall.tasks: " + task.name);
  given.erase("builtin");
  given.erase("shares");
  task.params = std::move(given);
  return task;
}

std::vector<std::string> kind_names() {
  std::vector<std::string> names{"repeats"};
  for (const Kind& kind : kinds()) names.emplace_back(kind.name);
  return names;
}

RecallConfig recall_of(const Json& given) {
  RecallConfig recall{.lengths = given.at("lengths"),
                      .tokens = given.at("tokens"),
                      .tokenizer_documents = given.at("tokenizer_documents")};
  const size_t count = recall.lengths.size();
  KVLAB_REQUIRE(std::set(recall.lengths.begin(), recall.lengths.end()).size() == count, "E_CONFIG",
                "recall: `lengths` has a length twice; each is a file of its own");
  KVLAB_REQUIRE(recall.tokens.size() == count, "E_CONFIG", "recall: `tokens` has ",
                recall.tokens.size(), " entries, `lengths` ", count, "; give one for each length");
  const std::vector<std::string> known = kind_names();
  for (const auto& [name, shares] : given.at("kinds").items()) {
    KVLAB_REQUIRE(std::ranges::count(known, name) == 1, "E_UNKNOWN", "recall.kinds: no kind `",
                  printable(name), "`", suggestion(name, known));
    recall.kinds.emplace_back(name, shares_of(shares, count, "recall.kinds: " + name));
  }
  for (const Json& task : given.at("tasks")) recall.tasks.push_back(task_of(task, count));
  for (size_t i = 0; i < count; ++i) {
    int64_t all = 0;
    for (const auto& [name, shares] : recall.kinds) all += shares[i];
    for (const RecallTask& task : recall.tasks) all += task.shares[i];
    KVLAB_REQUIRE(all > 0 || recall.tokens[i] == 0, "E_CONFIG", "recall: no kind has a share at ",
                  recall.lengths[i], " tokens; give one, or ask for 0 tokens");
  }
  return recall;
}

/// Entries of `packages` are whole, and those of an excerpt are among them.
void check_packages(const Json& packages, const std::vector<std::string>& of_excerpt) {
  std::set<std::string> seen;
  for (const Json& package : packages) {
    for (const char* key : {"name", "version", "licence", "sha256"})
      KVLAB_REQUIRE(package.contains(key) && package[key].is_string(), "E_CONFIG",
                    "packages: ", printable(package.dump()), " has no text `", key,
                    "`; a package has name, version, licence and sha256");
    KVLAB_REQUIRE(package.size() == 4, "E_CONFIG", "packages: ", printable(package.dump()),
                  " has other keys than name, version, licence and sha256");
    const std::string name = package["name"];
    KVLAB_REQUIRE(seen.insert(name).second, "E_CONFIG", "packages: ", printable(name),
                  " is listed twice");
  }
  for (const std::string& name : of_excerpt)
    KVLAB_REQUIRE(seen.contains(name), "E_UNKNOWN", "text.excerpt.packages: ", printable(name),
                  " is not among `packages`",
                  suggestion(name, std::vector<std::string>(seen.begin(), seen.end())));
}

}  // namespace

Config parse_config(const Json& given, const std::string& where) {
  Config config{.whole = Schema::parse(kSchemaText, "corpus").complete(given, where)};
  check_packages(config.whole.at("packages"), config.whole.at("text").at("excerpt").at("packages"));
  config.seed = config.whole.at("seed");
  config.vocabulary = config.whole.at("text").at("vocabulary");
  config.recall = recall_of(config.whole.at("recall"));
  return config;
}

}  // namespace kvlab::corpus
