#include "eval/experiment/report_page.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "eval/experiment/page_template.h"

namespace kvlab {
namespace {

/// `text` with the words instead of the marks; what is put in is not looked at again.
std::string filled(std::string_view text,
                   std::span<const std::pair<std::string_view, std::string>> words) {
  std::string page;
  for (size_t at = text.find('@'); at != text.npos; at = text.find('@')) {
    const auto word = std::ranges::find_if(
        words, [&](const auto& pair) { return text.substr(at).starts_with(pair.first); });
    const bool is_mark = word != words.end();
    page += text.substr(0, is_mark ? at : at + 1);
    if (is_mark) page += word->second;
    text.remove_prefix(at + (is_mark ? word->first.size() : 1));
  }
  return page.append(text);
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string json_for_script(const Json& value) {
  std::string escaped;
  for (const char c : value.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '<') {
      escaped += "\\u003c";  // in JSON it stands in strings only
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string report_page(const Json& data) {
  const std::array<std::pair<std::string_view, std::string>, 2> words{
      {{"@TITLE@", escape_html(data.at("title").get<std::string>())},
       {"@DATA@", json_for_script(data)}}};
  return filled(kPageTemplate, words);
}

}  // namespace kvlab
