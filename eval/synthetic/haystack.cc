#include "eval/synthetic/haystack.h"

#include <algorithm>

#include "core/error.h"
#include "eval/sha256.h"
#include "eval/synthetic/prose.h"
#include "eval/text.h"

namespace kvlab {
namespace {

constexpr HaystackKind kKinds[] = {HaystackKind::noise, HaystackKind::text, HaystackKind::prose,
                                   HaystackKind::needles};
constexpr std::string_view kBlank = " \t\n\v\f\r";

HaystackKind kind_named(const std::string& name) {
  const auto* const found = std::find_if(std::begin(kKinds), std::end(kKinds),
                                         [&](HaystackKind kind) { return name_of(kind) == name; });
  KVLAB_CHECK(found != std::end(kKinds));  // the schema has seen it
  return *found;
}

}  // namespace

std::string_view name_of(HaystackKind kind) {
  switch (kind) {
    case HaystackKind::noise:
      return "noise";
    case HaystackKind::text:
      return "text";
    case HaystackKind::prose:
      return "prose";
    case HaystackKind::needles:
      break;
  }
  return "needles";
}

const std::string& noise_unit() {
  static const std::string unit =
      "Rain fell on the hills. A lamp burned late. Boats came home at dusk. The road went on. It "
      "turned back again.";
  return unit;
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = text.find_first_not_of(kBlank); at != text.npos;) {
    const size_t end = std::min(text.find_first_of(kBlank, at), text.size());
    words.emplace_back(text.substr(at, end - at));
    at = text.find_first_not_of(kBlank, end);
  }
  return words;
}

std::vector<std::string> split_sentences(std::string_view text) {
  std::vector<std::string> sentences;
  size_t begin = 0;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    if ((text[i] != '.' && text[i] != '!' && text[i] != '?') || text[i + 1] != ' ') continue;
    sentences.emplace_back(text.substr(begin, i + 1 - begin));
    begin = i + 2;
  }
  if (begin < text.size()) sentences.emplace_back(text.substr(begin));
  return sentences;
}

int32_t depth_percent(int32_t step) { return (200 * step + kDepths - 1) / (2 * (kDepths - 1)); }

std::vector<size_t> Places::slots(size_t pieces) const {
  std::vector<size_t> slots;
  for (const int32_t place : at) {
    const auto value = static_cast<size_t>(place);
    slots.push_back(in_percent ? pieces * value / 100 : value);
  }
  return slots;
}

Haystack::Haystack(const TaskSetup& setup)
    : kind_(kind_named(setup.params->at("haystack").get<std::string>())) {
  const std::string text = setup.params->at("text");
  KVLAB_REQUIRE((kind_ == HaystackKind::text) == !text.empty(), "E_CONFIG", "haystack: ",
                kind_ == HaystackKind::text
                    ? "\"text\" needs a UTF-8 file as `text`; use \"prose\" where there is none"
                    : "`text` names a file, but `haystack` is not \"text\"; leave one of them out");
  if (kind_ != HaystackKind::text) return;
  const std::filesystem::path path = setup.locate(text);
  const std::string content = read_text(path);
  words_ = std::make_shared<const std::vector<std::string>>(split_words(content));
  KVLAB_REQUIRE(!words_->empty(), "E_TEXT_TOO_SHORT", path.string(), ": holds no word");
  files_.push_back(
      {{"path", path.string()}, {"sha256", sha256_hex(content)}, {"bytes", content.size()}});
}

int64_t Haystack::least_units(int64_t needles) const {
  return kind_ == HaystackKind::noise || kind_ == HaystackKind::needles ? needles : 1;
}

Places Haystack::draw_places(SplitMix64& random, int64_t units, int64_t needles) const {
  Places places{.in_percent = kind_ == HaystackKind::text || kind_ == HaystackKind::prose};
  const int32_t from = places.in_percent ? kDepths : static_cast<int32_t>(units);
  places.at = random.sample_range(0, from, static_cast<size_t>(needles));
  if (places.in_percent) std::ranges::transform(places.at, places.at.begin(), depth_percent);
  std::ranges::sort(places.at);
  return places;
}

std::vector<std::string> Haystack::pieces(SplitMix64& random, int64_t units,
                                          const std::function<std::string()>& distractor) const {
  const auto count = static_cast<size_t>(units);
  std::vector<std::string> pieces(count);
  switch (kind_) {
    case HaystackKind::noise:
      std::ranges::fill(pieces, noise_unit());
      break;
    case HaystackKind::text:
      for (size_t i = 0; i < count; ++i) pieces[i] = (*words_)[i % words_->size()];
      return split_sentences(hide(pieces, {}, {}).text);
    case HaystackKind::prose:
      for (std::string& piece : pieces) piece = prose_sentence(random);
      break;
    case HaystackKind::needles:
      for (std::string& piece : pieces) piece = distractor();
      break;
  }
  return pieces;
}

Json haystack_schema(HaystackKind standard, const Json& given, bool with_needles) {
  std::string name(name_of(standard));
  const auto text = given.find("text");
  const bool has_file =
      text != given.end() && text->is_string() && !text->get_ref<const std::string&>().empty();
  if (standard == HaystackKind::text && !has_file) name = "prose";
  Json choices = Json::array();
  for (const HaystackKind kind : kKinds)
    if (with_needles || kind != HaystackKind::needles) choices.push_back(name_of(kind));
  return {{"haystack",
           {{"type", "string"},
            {"default", name},
            {"choices", choices},
            {"doc", "what the needles are hidden in"}}},
          {"text",
           {{"type", "string"},
            {"default", ""},
            {"doc", "UTF-8 file, for the haystack \"text\"; repeated when too short"}}}};
}

}  // namespace kvlab
