#pragma once
// report.html: the page of a run directory, one file that needs nothing beside it.

#include <string>
#include <string_view>

#include "core/json.h"

namespace kvlab {

/// `data` as eval/experiment/page_data.h describes it, inside the page that the build has made of
/// eval/experiment/page/ and of Plotly.js.
std::string report_page(const Json& data);

/// JSON that may stand inside a <script> of HTML: no "<" is left in it, so it neither ends the
/// element nor begins a comment.  Bytes that are not UTF-8 become U+FFFD.
std::string json_for_script(const Json& value);

/// Text between two tags, or in quotes.
std::string escape_html(std::string_view text);

}  // namespace kvlab
