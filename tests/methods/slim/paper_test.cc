// The tables of the paper (arXiv 2503.05840), digit by digit: what it prints, against what its
// arithmetic gives.
#include "methods/slim/paper.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kvlab::slim {
namespace {

using Cells = std::vector<std::string>;

Json table(const std::string& start) {
  const Json all = paper_tables();
  for (const Json& table : all.at("tables"))
    if (table.at("title").get<std::string>().starts_with(start)) return table;
  ADD_FAILURE() << "no table " << start;
  return {};
}

Cells row(const Json& table, const std::string& name) {
  for (const Json& cells : table.at("rows"))
    if (cells.at(0) == name) return cells.get<Cells>();
  ADD_FAILURE() << "no row " << name;
  return {};
}

TEST(SlimPaper, EveryRowHasACellForEveryColumn) {
  const Json all = paper_tables();
  for (const Json& table : all.at("tables"))
    for (const Json& cells : table.at("rows"))
      EXPECT_EQ(cells.size(), table.at("columns").size()) << table.at("title") << cells;
}

TEST(SlimPaper, Table1) {
  const Json printed = {{"CodeLlama-7B", "4.3B"},     {"CodeLlama-13B", "6.7B"},
                        {"CodeGemma-7B", "1.9B"},     {"Aya-23-35B", "5.4B"},
                        {"SmolLM2-1.7B", "0.8B"},     {"SmolVLM", "1.6B"},
                        {"Evo-1-131k", "34.4B"},      {"Phi-3-mini-128k", "25.8B"},
                        {"BitNet b1.58-3B", "0.3B"},  {"DCLM-7B", "0.5B"},
                        {"OLMo-1B", "0.3B"},          {"OLMo-2-13B", "1.7B"},
                        {"Chronos-Bolt-tiny", "1M"},  {"Chronos-Bolt-base", "9.4M"},
                        {"Qwen2-Audio-7B", "2.1B"},   {"LLaVA-NeXT-Video-7B", "1.1B"},
                        {"LLaVA-Vicuna-13B", "1.7B"}, {"Vicuna-7B-16k", "4.3B"},
                        {"Vicuna-13B-16k", "6.7B"},   {"Flan-T5-base", "9.4M"},
                        {"Flan-T5-XXL", "101M"},      {"Whisper-tiny", "6M"},
                        {"Whisper-large-v3", "160M"}, {"GPT-2 XL", "157M"}};
  const Json models = table("Table 1:");
  ASSERT_EQ(models.at("rows").size(), printed.size());
  for (const Json& cells : models.at("rows"))
    EXPECT_EQ(cells.at(4), printed.at(cells.at(0).get<std::string>())) << cells;
}

/// Projection operations and reads, attention operations and reads, as formulas.
TEST(SlimPaper, Table2) {
  for (const double d : {288.0, 4096.0})
    for (const double h : {6.0, 32.0})
      for (const double n : {1.0, 1000.0}) {
        const auto expect = [&](Evaluation how, double projection, double attention, double reads,
                                double projection_intensity, double attention_intensity) {
          const Work work = work_of(how, d, h, n);
          EXPECT_DOUBLE_EQ(work.projection_operations, projection);
          EXPECT_DOUBLE_EQ(work.projection_reads, 4 * d * d);
          EXPECT_DOUBLE_EQ(work.attention_operations, attention);
          EXPECT_DOUBLE_EQ(work.attention_reads, reads);
          EXPECT_DOUBLE_EQ(work.projection_operations / work.projection_reads,
                           projection_intensity);
          EXPECT_DOUBLE_EQ(work.attention_operations / work.attention_reads, attention_intensity);
        };
        expect(Evaluation::vanilla, 8 * d * d, 4 * n * d, 2 * n * d, 2, 2);
        expect(Evaluation::rebuild, (2 * n + 6) * d * d, 4 * n * d, n * d, (n + 3) / 2, 4);
        expect(Evaluation::absorb, 8 * d * d, 2 * n * d * (h + 1), n * d, 2, 2 * h + 2);
      }
}

TEST(SlimPaper, OperationsOfOneHead) {
  const Json head = table("Operations of values in one head");
  EXPECT_EQ(row(head, "option 1"), (Cells{"option 1", "26214400", "12800", "26227200", ""}));
  EXPECT_EQ(row(head, "option 2"), (Cells{"option 2", "409600", "262144", "671744", "39.0"}));
}

TEST(SlimPaper, Table3) {
  const Json printed = {{"Apple A18", "583"},      {"Apple M4 Max", "93"}, {"Google TPU v4", "229"},
                        {"Google TPU v5p", "332"}, {"NVIDIA H200", "413"}, {"NVIDIA B200", "563"}};
  const Json chips = table("Table 3:");
  ASSERT_EQ(chips.at("rows").size(), printed.size());
  for (const Json& cells : chips.at("rows"))
    EXPECT_EQ(cells.at(3), printed.at(cells.at(0).get<std::string>())) << cells;
}

TEST(SlimPaper, Tables4And5) {
  const Json shapes = table("Table 4:"), caches = table("Table 5:");
  EXPECT_EQ(row(shapes, "CodeGemma-7B"),
            (Cells{"CodeGemma-7B", "3072", "256", "16", "4096", "1.3"}));
  EXPECT_EQ(row(shapes, "T5-3B"), (Cells{"T5-3B", "1024", "128", "32", "4096", "4"}));
  EXPECT_EQ(row(shapes, "T5-11B"), (Cells{"T5-11B", "1024", "128", "128", "16384", "16"}));
  const Json& rows = caches.at("rows");
  const char* smaller[] = {"2.00x", "2.67x", "2.00x", "8.00x", "2.00x", "32.00x"};
  for (size_t i = 0; i < rows.size(); ++i) {
    const bool keys = rows.at(i).at(1) == "K";
    EXPECT_EQ(rows.at(i).at(2), smaller[i]);
    EXPECT_EQ(rows.at(i).at(4), keys ? "yes" : "no");
  }
}

TEST(SlimPaper, Table6) {
  const Json shares = table("Table 6:");
  EXPECT_EQ(row(shares, "self-attention cache"),
            (Cells{"self-attention cache", "100 %", "50 %", "50 %"}));
  EXPECT_EQ(row(shares, "cross-attention cache"),
            (Cells{"cross-attention cache", "100 %", "50 %", "0 %"}));
}

TEST(SlimPaper, Table7) {
  const Json whisper = table("Table 7:");
  const std::vector<Cells> printed{
      {"encoder output E", "0.6", "0.8", "1.2", "1.5", "1.9"},
      {"cross cache", "4.6", "9.2", "27.6", "73.7", "122.9"},
      {"self cache", "1.4", "2.8", "8.3", "22.0", "36.7"},
      {"cache, baseline", "6.0", "12.0", "35.9", "95.7", "159.6"},
      {"cache, option 1", "3.0", "6.0", "18.0", "47.9", "79.8"},
      {"cache, option 2", "0.7", "1.4", "4.1", "11.0", "18.4"},
      {"cache smaller, option 2", "8.7x", "8.7x", "8.7x", "8.7x", "8.7x"},
      {"parameters, baseline", "28.2", "48.6", "138.9", "405.4", "800.4"},
      {"parameters, option 1", "28.8", "50.1", "146.0", "430.6", "852.8"},
      {"parameters, option 2", "29.4", "51.7", "153.1", "455.8", "905.2"},
      {"reads at batch 1, baseline", "34.2", "60.5", "174.8", "501.2", "960.0"},
      {"reads at batch 1, option 1", "31.8", "56.1", "164.0", "478.5", "932.6"},
      {"reads at batch 1, option 2", "30.0", "53.1", "157.2", "466.8", "923.6"},
      {"speed-up at batch 1, option 1", "1.08x", "1.08x", "1.07x", "1.05x", "1.03x"},
      {"speed-up at batch 1, option 2", "1.14x", "1.14x", "1.11x", "1.07x", "1.04x"},
      {"reads at batch 64, baseline", "6.4", "12.7", "38.1", "102.1", "172.1"},
      {"reads at batch 64, option 1", "3.4", "6.8", "20.2", "54.6", "93.1"},
      {"reads at batch 64, option 2", "1.1", "2.2", "6.5", "18.1", "32.5"},
      {"speed-up at batch 64, option 1", "1.9x", "1.9x", "1.9x", "1.9x", "1.8x"},
      {"speed-up at batch 64, option 2", "5.6x", "5.8x", "5.8x", "5.6x", "5.3x"}};
  for (const Cells& cells : printed) EXPECT_EQ(row(whisper, cells[0]), cells);
}

/// The paper takes the encoder's output to be on chip; here it is kept and read.
TEST(SlimPaper, WhatTable7LeavesOut) {
  const Json whisper = table("Table 7:");
  const std::vector<Cells> counted{
      {"not in the paper: cache smaller, option 2, E counted", "4.7x", "5.6x", "6.8x", "7.6x",
       "7.9x"},
      {"not in the paper: speed-up at batch 64, option 2, E read once a step", "3.7x", "4.3x",
       "5.0x", "5.2x", "5.0x"},
      {"not in the paper: speed-up at batch 64, option 2, E read by every layer", "1.86x", "1.87x",
       "1.87x", "1.86x", "1.83x"}};
  for (const Cells& cells : counted) EXPECT_EQ(row(whisper, cells[0]), cells);
}

TEST(SlimPaper, RowsToSkip) {
  const Json sparsity = table("Weights that are 80 % zeros");
  EXPECT_EQ(row(sparsity, "1"), (Cells{"1", "0.80", "5.0x"}));
  EXPECT_EQ(row(sparsity, "4").at(1), "0.41");
}

}  // namespace
}  // namespace kvlab::slim
