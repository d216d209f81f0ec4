#pragma once
// A table of text whose columns line up, as Markdown reads it.

#include <string>
#include <vector>

namespace kvlab {

class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  /// Columns of numbers to the right, the others to the left.
  std::string markdown() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace kvlab
