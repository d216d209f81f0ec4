#pragma once
// A corpus directory made of counters: what is where can be read off the tokens.

#include <fstream>
#include <string>
#include <vector>

#include "tests/support/scratch.h"

namespace kvlab::test {

inline constexpr int kVocabulary = 1000;

inline void write_tokens(const std::filesystem::path& path, const std::vector<uint16_t>& tokens) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(tokens.data()),
             static_cast<std::streamsize>(2 * tokens.size()));
}
inline void write_marks(const std::filesystem::path& path,
                        const std::vector<unsigned char>& marks) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(marks.data()),
             static_cast<std::streamsize>(marks.size()));
}

/// Text: 1, 2, ..., 900, 1, ...  Recall document i: 0, 901 + i, then 5 tokens 11 .. 15, of which
/// the last two are marked.
class CounterCorpus {
 public:
  explicit CounterCorpus(int text_tokens = 5000, int documents = 12) {
    std::vector<uint16_t> text, recall;
    std::vector<unsigned char> marks;
    for (int i = 0; i < text_tokens; ++i) text.push_back(static_cast<uint16_t>(1 + i % 900));
    for (int i = 0; i < documents; ++i)
      for (const int token : {0, 901 + i, 11, 12, 13, 14, 15}) {
        recall.push_back(static_cast<uint16_t>(token));
        marks.push_back(token == 14 || token == 15);
      }
    write_tokens(folder_ / "text-train.bin", text);
    write_tokens(folder_ / "text-valid.bin", text);
    write_tokens(folder_ / "recall-8.bin", recall);
    write_marks(folder_ / "recall-8.marks", marks);
  }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  Scratch folder_;
};

}  // namespace kvlab::test
