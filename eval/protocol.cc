#include "eval/protocol.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "core/error.h"
#include "eval/catalogue.h"

namespace kvlab {
namespace {

constexpr std::array<std::pair<Bos, std::string_view>, 4> kBosNames = {{
    {Bos::none, "none"},
    {Bos::text_start, "text_start"},
    {Bos::each_window, "each_window"},
    {Bos::replace_first, "replace_first"},
}};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

int64_t integer(std::string_view text, std::string_view whole) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  KVLAB_REQUIRE(error == std::errc() && end == text.data() + text.size() && !text.empty(),
                "E_CONFIG", "protocol `", printable(whole), "`: `", printable(text),
                "` is not an integer; write name(a,b,c), e.g. decode(768,255) or disjoint(2048)");
  return value;
}

}  // namespace

std::string_view name_of(Bos bos) { return kBosNames[static_cast<size_t>(bos)].second; }

Bos bos_named(std::string_view name) {
  std::vector<std::string> known;
  for (const auto& [bos, text] : kBosNames) {
    if (text == name) return bos;
    known.emplace_back(text);
  }
  fail("E_CONFIG", "bos: no handling `", printable(name), "`", suggestion(name, known));
}

Json parse_protocol(std::string_view text, const Catalogue& catalogue) {
  const size_t open = text.find('(');
  const Protocol& protocol = catalogue.protocol(trimmed(text.substr(0, open)));
  Json given{{"ppl", protocol.name}};
  if (open == std::string_view::npos) return given;
  KVLAB_REQUIRE(trimmed(text).back() == ')', "E_CONFIG", "protocol `", printable(text),
                "`: the closing `)` is missing");
  std::string_view list = trimmed(text).substr(open + 1);
  list.remove_suffix(1);
  for (size_t i = 0; !trimmed(list).empty(); ++i) {
    KVLAB_REQUIRE(i < protocol.positional.size(), "E_CONFIG", "protocol `", printable(text),
                  "`: ", protocol.name, " takes at most ", protocol.positional.size(), " values");
    const size_t comma = std::min(list.find(','), list.size());
    given[protocol.positional[i]] = integer(trimmed(list.substr(0, comma)), text);
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return given;
}

Sample window_sample(const Window& window, std::span<const int32_t> tokens, Bos how, int32_t bos) {
  const bool ahead = window.prefixed || how == Bos::each_window;
  Sample sample;
  sample.turns.emplace_back();
  Fed& context = sample.context;
  Fed& query = sample.turns[0].query;
  const auto feed = [&](Fed& to, int32_t token, int64_t next) {
    const bool scored = next >= window.scored.first && next < window.scored.last;
    to.ids.push_back(token);
    to.labels.push_back(scored ? tokens[static_cast<size_t>(next)] : kUnscored);
  };
  if (ahead) feed(context, bos, window.fed.first);
  for (int64_t t = window.fed.first; t < window.fed.last; ++t) {
    const bool replaced = how == Bos::replace_first && t == window.fed.first;
    const bool prompt = t - window.fed.first < window.prompt;
    feed(prompt ? context : query, replaced ? bos : tokens[static_cast<size_t>(t)], t + 1);
  }
  if (query.ids.empty()) sample.turns.clear();
  sample.meta = {{"first_token", window.fed.first},
                 {"scored", {window.scored.first, window.scored.last}}};
  if (window.fresh > 0) sample.meta["fresh"] = window.fresh;
  return sample;
}

Window whole_window(Range fed, Range scored) {
  return {.fed = fed, .prompt = fed.size(), .scored = scored};
}

void require_context(std::string_view who, int64_t positions, const TextFacts& text) {
  KVLAB_REQUIRE(text.max_positions <= 0 || positions <= text.max_positions, "E_CONTEXT_TOO_LONG",
                who, ": a window takes ", positions, " positions, the model has ",
                text.max_positions, "; make the window shorter");
}

void require_tokens(std::string_view who, int64_t needed, const TextFacts& text) {
  KVLAB_REQUIRE(
      text.tokens >= needed, "E_TEXT_TOO_SHORT", who, ": one window needs ", needed,
      " tokens, the text has ", text.tokens,
      "; give a longer text or a shorter window, e.g. decode(P,S) with P + S + 1 <= ", text.tokens);
}

}  // namespace kvlab
