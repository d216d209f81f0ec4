#include "methods/slim/paper.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace kvlab::slim {
namespace {

using Cells = std::vector<std::string>;

constexpr double kEncoderTokens = 1500, kDecoderTokens = 448, kVocabulary = 51865;  // of Whisper
constexpr double kMillion = 1e6, kBillion = 1e9;

/// Halves away from zero, as the paper rounds.
std::string fixed(double x, int digits) {
  const double unit = std::pow(10.0, digits);
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, std::round(x * unit) / unit);
  return text;
}

std::string times(double ratio, int digits) { return fixed(ratio, digits) + "x"; }
std::string whole_percent(double share) { return fixed(100 * share, 0) + " %"; }

/// 4.3B, 157M, 9.4M, 1M.
std::string elements(double count) {
  if (count >= 0.2 * kBillion) return fixed(count / kBillion, 1) + "B";
  std::string text = fixed(count / kMillion, count < 10 * kMillion ? 1 : 0);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text + "M";
}

Json table(const char* title, const Cells& columns, const std::vector<Cells>& rows) {
  return {{"title", title}, {"columns", columns}, {"rows", rows}};
}

double product_operations(double rows, double inner, double columns) {
  return 2 * rows * inner * columns;
}

// ---- tables 1 and 10: models whose keys and values are as wide as each other

struct Model {
  const char* name = "";
  double key_width = 0, layers = 0, tokens = 0;  // e, L, N
};

constexpr double kK = 1024;

constexpr auto kTable1 = std::to_array<Model>({
    {"CodeLlama-7B", 4096, 32, 16 * kK},
    {"CodeLlama-13B", 5120, 40, 16 * kK},
    {"CodeGemma-7B", 4096, 28, 8 * kK},
    {"Aya-23-35B", 8192, 40, 8 * kK},
    {"SmolLM2-1.7B", 2048, 24, 8 * kK},
    {"SmolVLM", 2048, 24, 16 * kK},
    {"Evo-1-131k", 4096, 32, 128 * kK},
    {"Phi-3-mini-128k", 3072, 32, 128 * kK},
    {"BitNet b1.58-3B", 3200, 26, 2 * kK},
    {"DCLM-7B", 4096, 32, 2 * kK},
    {"OLMo-1B", 2048, 16, 4 * kK},
    {"OLMo-2-13B", 5120, 40, 4 * kK},
    {"Chronos-Bolt-tiny", 256, 4, 512},
    {"Chronos-Bolt-base", 768, 12, 512},
    {"Qwen2-Audio-7B", 4096, 32, 8 * kK},
    {"LLaVA-NeXT-Video-7B", 4096, 32, 4 * kK},
    {"LLaVA-Vicuna-13B", 5120, 40, 4 * kK},
    {"Vicuna-7B-16k", 4096, 32, 16 * kK},
    {"Vicuna-13B-16k", 5120, 40, 16 * kK},
    {"Flan-T5-base", 768, 12, 512},
    {"Flan-T5-XXL", 4096, 24, 512},
    {"Whisper-tiny", 384, 4, kEncoderTokens + kDecoderTokens},
    {"Whisper-large-v3", 1280, 32, kEncoderTokens + kDecoderTokens},
    {"GPT-2 XL", 1600, 48, 1 * kK},
});

constexpr auto kTable10 = std::to_array<Model>({
    {"METAGENE-1", 4096, 32, 0},       {"OLMoE-1B-7B", 2048, 16, 0},
    {"DRAMA-base", 768, 12, 0},        {"Chameleon-7B", 4096, 32, 0},
    {"llm-compiler-13B", 5120, 40, 0}, {"DeepSeek-VL2-tiny", 1280, 12, 0},
    {"CrisperWhisper", 1280, 32, 0},   {"Moonshine-base", 416, 8, 0},
    {"Moondream-2", 2048, 24, 0},      {"Stable-Code-3B", 2560, 32, 0},
    {"StableLM-2-1.6B", 2048, 24, 0},  {"OpenMath-CodeLlama-13B", 5120, 40, 0},
    {"MAIRA-2", 4096, 32, 0},          {"Rocket-3B", 2560, 32, 0},
    {"OpenLLaMA-13B", 5120, 40, 0},    {"TimesFM-200M", 1280, 20, 0},
    {"MetricX-24-XXL", 4096, 24, 0},   {"BioMedLM", 2560, 32, 0},
    {"MiniCPM-V2", 2304, 40, 0},       {"UltraLM-65B", 8192, 80, 0},
    {"LLaMA-2-7B-32K", 4096, 32, 0},   {"Dolly-v2-12B", 5120, 36, 0},
    {"MPT-7B-8K", 4096, 32, 0},        {"MPT-30B", 7168, 48, 0},
    {"BLOOM", 14336, 70, 0},
});

double dense_elements(const Model& model) { return 2 * model.key_width * model.layers; }

Json whole_contexts() {
  std::vector<Cells> rows;
  for (const Model& model : kTable1) {
    const double dense = dense_elements(model) * model.tokens;
    rows.push_back({model.name, fixed(model.key_width, 0), fixed(model.layers, 0),
                    fixed(model.tokens, 0), elements(dense), elements(dense / 2)});
  }
  return table("Table 1: elements cached for the whole context, 2 e L N",
               {"model", "e", "layers", "tokens", "K and V", "K alone"}, rows);
}

Json further_models() {
  std::vector<Cells> rows;
  for (const Model& model : kTable10)
    rows.push_back({model.name, fixed(model.key_width, 0), fixed(model.layers, 0),
                    fixed(dense_elements(model), 0), fixed(dense_elements(model) / 2, 0)});
  return table("Table 10: further models, elements per cached token, 2 e L",
               {"model", "e", "layers", "K and V", "K alone"}, rows);
}

// ---- table 2: one token at decode

constexpr double kSmolWidth = 2048, kSmolHeads = 32, kSmolTokens = 8192;
constexpr auto kEvaluations = std::to_array<std::pair<Evaluation, const char*>>(
    {{Evaluation::vanilla, "vanilla"},
     {Evaluation::rebuild, "option 1: values rebuilt"},
     {Evaluation::absorb, "option 2: values absorbed"}});

Json complexity() {
  std::vector<Cells> rows;
  for (const auto& [how, name] : kEvaluations) {
    const Work work = work_of(how, kSmolWidth, kSmolHeads, kSmolTokens);
    rows.push_back({name, fixed(work.projection_operations, 0), fixed(work.projection_reads, 0),
                    fixed(work.projection_operations / work.projection_reads, 1),
                    fixed(work.attention_operations, 0), fixed(work.attention_reads, 0),
                    fixed(work.attention_operations / work.attention_reads, 1)});
  }
  return table("Table 2: one layer, one token at decode; d = 2048, 32 heads, n = 8192",
               {"evaluation", "projection operations", "elements read", "operations per element",
                "attention operations", "elements read", "operations per element"},
               rows);
}

Json one_head() {
  constexpr double tokens = 100, features = 64;
  const double rebuild = product_operations(tokens, kSmolWidth, features);
  const double weigh_values = product_operations(1, tokens, features);
  const double weigh_keys = product_operations(1, tokens, kSmolWidth);
  const double map = product_operations(1, kSmolWidth, features);
  const double first = rebuild + weigh_values, second = weigh_keys + map;
  return table("Operations of values in one head; d = 2048, head of 64, n = 100",
               {"evaluation", "over tokens", "of the head", "sum", "ratio"},
               {{"option 1", fixed(rebuild, 0), fixed(weigh_values, 0), fixed(first, 0), ""},
                {"option 2", fixed(weigh_keys, 0), fixed(map, 0), fixed(second, 0),
                 fixed(first / second, 1)}});
}

// ---- table 3: what chips can do

struct Chip {
  const char* name = "";
  double tera_operations = 0, giga_bytes = 0;  // int8, per second
};

constexpr auto kChips = std::to_array<Chip>({{"Apple A18", 35, 60},
                                             {"Apple M4 Max", 38, 410},
                                             {"Google TPU v4", 275, 1200},
                                             {"Google TPU v5p", 918, 2765},
                                             {"NVIDIA H200", 1980, 4800},
                                             {"NVIDIA B200", 4500, 8000}});

Json balances() {
  std::vector<Cells> rows;
  for (const Chip& chip : kChips)
    rows.push_back({chip.name, fixed(chip.tera_operations, 0), fixed(chip.giga_bytes, 0),
                    fixed(1000 * chip.tera_operations / chip.giga_bytes, 0)});
  return table("Table 3: operations per byte read, int8",
               {"chip", "10^12 operations/s", "GB/s", "operations per byte"}, rows);
}

// ---- tables 4 and 5: projections wider than the model

struct Wide {
  const char* name = "";
  double width = 0, head_dim = 0, heads = 0;
  int digits = 0;  // of r, as printed
  double key_width() const { return head_dim * heads; }
  double ratio() const { return key_width() / width; }
};

constexpr auto kWide = std::to_array<Wide>({{"CodeGemma-7B", 3072, 256, 16, 1},
                                            {"T5-3B", 1024, 128, 32, 0},
                                            {"T5-11B", 1024, 128, 128, 0}});

Json wide_projections() {
  std::vector<Cells> rows;
  for (const Wide& model : kWide)
    rows.push_back({model.name, fixed(model.width, 0), fixed(model.head_dim, 0),
                    fixed(model.heads, 0), fixed(model.key_width(), 0),
                    fixed(model.ratio(), model.digits)});
  return table("Table 4: keys wider than the model, r = e / d",
               {"model", "d", "head", "heads", "e", "r"}, rows);
}

Json wide_caches() {
  std::vector<Cells> rows;
  for (const Wide& model : kWide) {
    const double e = model.key_width(), dense = 2 * e;
    rows.push_back({model.name, "K", times(dense / e, 2), fixed(e * e, 0), "yes"});
    rows.push_back(
        {model.name, "X", times(dense / model.width, 2), fixed(model.width * e, 0), "no"});
  }
  return table("Table 5: what is cached where keys are wider than the model (CodeGemma has RoPE)",
               {"model", "cached", "smaller", "elements of the map", "with RoPE"}, rows);
}

// ---- tables 6 and 7: encoder and decoder

constexpr auto kWhisper = std::to_array<Whisper>({{"tiny", 4, 384, 1536},
                                                  {"base", 6, 512, 2048},
                                                  {"small", 12, 768, 3072},
                                                  {"medium", 24, 1024, 4096},
                                                  {"large", 32, 1280, 5120}});

Json shares() {
  const Whisper& model = kWhisper.front();
  Cells self{"self-attention cache"}, cross{"cross-attention cache"};
  for (int option = 0; option < 3; ++option) {
    const double of_self = option == 0 ? model.self() : model.self() / 2;
    self.push_back(whole_percent(of_self / model.self()));
    cross.push_back(whole_percent((model.cache(option) - of_self) / model.cross()));
  }
  return table("Table 6: encoder-decoder", {"", "baseline", "option 1", "option 2"},
               {self,
                cross,
                {"cross weights read at decode", "none", "W_KV", "W_K and W_V"},
                {"projections of the encoder's output", "K and V", "K", "none"},
                {"RoPE", "yes", "yes", "no"}});
}

Json whisper() {
  Cells columns{"in millions"};
  for (const Whisper& model : kWhisper) columns.emplace_back(model.name);
  std::vector<Cells> rows;
  const auto row = [&](std::string name, auto&& cell) {
    Cells cells{std::move(name)};
    for (const Whisper& model : kWhisper) cells.push_back(cell(model));
    rows.push_back(std::move(cells));
  };
  const auto millions = [](double count) { return fixed(count / kMillion, 1); };
  constexpr std::array<const char*, 3> options{", baseline", ", option 1", ", option 2"};
  row("encoder output E", [&](const Whisper& w) { return millions(w.encoder_output()); });
  row("cross cache", [&](const Whisper& w) { return millions(w.cross()); });
  row("self cache", [&](const Whisper& w) { return millions(w.self()); });
  for (int o = 0; o < 3; ++o)
    row(std::string("cache") + options[static_cast<size_t>(o)],
        [&](const Whisper& w) { return millions(w.cache(o)); });
  row("cache smaller, option 2",
      [](const Whisper& w) { return times(w.cache(0) / w.cache(2), 1); });
  for (int o = 0; o < 3; ++o)
    row(std::string("parameters") + options[static_cast<size_t>(o)],
        [&](const Whisper& w) { return millions(w.parameters(o)); });
  for (const double batch : {1.0, 64.0}) {
    const std::string at = " at batch " + fixed(batch, 0);
    for (int o = 0; o < 3; ++o)
      row("reads" + at + options[static_cast<size_t>(o)],
          [&](const Whisper& w) { return millions(w.reads(o, batch)); });
    for (int o = 1; o < 3; ++o)
      row("speed-up" + at + options[static_cast<size_t>(o)], [&](const Whisper& w) {
        return times(w.reads(0, batch) / w.reads(o, batch), batch == 1 ? 2 : 1);
      });
  }
  row("not in the paper: cache smaller, option 2, E counted",
      [](const Whisper& w) { return times(w.saving_with_encoder_output(), 1); });
  row("not in the paper: speed-up at batch 64, option 2, E read once a step",
      [](const Whisper& w) { return times(w.speedup_with_encoder_output(64, 1), 1); });
  row("not in the paper: speed-up at batch 64, option 2, E read by every layer",
      [](const Whisper& w) { return times(w.speedup_with_encoder_output(64, w.layers), 2); });
  return table("Table 7: Whisper, 1500 encoder and 448 decoder tokens", columns, rows);
}

/// A row of values can be skipped where all heads that read it have (next to) no weight.
Json sparsity() {
  std::vector<Cells> rows;
  for (const double heads : {1.0, 4.0, kSmolHeads}) {
    const double skipped = std::pow(0.8, heads);
    rows.push_back({fixed(heads, 0), fixed(skipped, 2), times(1 / (1 - skipped), 1)});
  }
  return table("Weights that are 80 % zeros: rows that may be skipped",
               {"heads reading a row", "share skipped", "less work"}, rows);
}

}  // namespace

Work work_of(Evaluation how, double width, double heads, double tokens) {
  const double square = product_operations(1, width, width);
  Work work{.projection_operations = 4 * square,  // queries, keys, values or their map, output
            .projection_reads = 4 * width * width,
            .attention_operations = 2 * product_operations(1, width, tokens),
            .attention_reads = tokens * width};
  switch (how) {
    case Evaluation::vanilla:
      work.attention_reads *= 2;
      break;
    case Evaluation::rebuild:
      work.projection_operations = 3 * square + product_operations(tokens, width, width);
      break;
    case Evaluation::absorb:  // scores of own features, and every head's sum of whole rows
      work.attention_operations =
          product_operations(1, width, tokens) + heads * product_operations(1, tokens, width);
      break;
  }
  return work;
}

double Whisper::encoder_output() const { return kEncoderTokens * width; }
double Whisper::cross() const { return 2 * kEncoderTokens * width * layers; }
double Whisper::self() const { return 2 * kDecoderTokens * width * layers; }

double Whisper::cache(int option) const {
  if (option == 0) return cross() + self();
  return self() / 2 + (option == 1 ? cross() / 2 : 0);
}

double Whisper::parameters(int option) const {
  // Of a layer self-attention has 4 projections, cross-attention at decode 2 and what it rebuilds
  // keys and values with.
  return width * kVocabulary + layers * ((6 + option) * width * width + 2 * width * feed_forward);
}

double Whisper::reads(int option, double batch) const {
  return cache(option) + parameters(option) / batch;
}

double Whisper::saving_with_encoder_output() const {
  return cache(0) / (cache(2) + encoder_output());
}

double Whisper::speedup_with_encoder_output(double batch, double reads_per_step) const {
  return reads(0, batch) / (reads(2, batch) + reads_per_step * encoder_output());
}

Json paper_tables() {
  return {{"tables",
           {whole_contexts(), complexity(), one_head(), balances(), wide_projections(),
            wide_caches(), shares(), whisper(), sparsity(), further_models()}}};
}

}  // namespace kvlab::slim
