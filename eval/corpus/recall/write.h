#pragma once
// The recall documents of a corpus.

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "eval/corpus/config.h"
#include "eval/corpus/recall/draft.h"
#include "eval/corpus/recall/source.h"
#include "eval/tokenizer.h"

namespace kvlab::corpus {

/// Documents of one length.  Document i is a function of (seed, length, i) alone: its kind is drawn
/// by the shares, then the document itself.
class RecallDocuments {
 public:
  /// `place`: of the length among those of the configuration.
  RecallDocuments(const Config& config, size_t place, std::shared_ptr<Tokenizer> tokenizer,
                  const Source& source);
  ~RecallDocuments();
  /// With its first token; `length` tokens at most.
  Marked document(int64_t index);
  /// What that document is: "needles", "repeats", a task's name.
  const std::string& kind_of(int64_t index) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Texts of documents for a tokenizer to be trained on, of every kind of text.
std::vector<std::string> sample_texts(const Config& config);

/// recall-LENGTH.bin and .marks for every length.  Returns what corpus.json says of them:
/// {"128": {"documents", "tokens", "marked", "kinds": {NAME: documents}}, ...}.
Json write_recall(const Config& config, const std::shared_ptr<Tokenizer>& tokenizer,
                  const Source& source, const std::filesystem::path& out,
                  const std::function<void(int64_t done, int64_t all)>& progress);

}  // namespace kvlab::corpus
