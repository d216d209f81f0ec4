#pragma once
// What report.html shows, as JSON: made from the lines of a run directory, drawn by
// eval/experiment/page/report.js.
//
//   {"schema": "kvlab-page/1", "title", "subtitle": [text, ...], "missing": cells not run yet,
//    "families": [method names in their order: a colour each, dense the first],
//    "overview": table of all questions, or null,
//    "questions": [{"id", "heading", "facts", "headline": metric, "table": table, "all": table,
//                   "tradeoffs": table or null, "rows": [{"title", "family", "setting", "dense"}],
//                   "plots": [plot, ...]}, ...],
//    "warnings": [{"where", "text"}], "references": what others reported,
//    "metrics": {name: {"unit", "better", "doc"}}, "record": record.json}
//
//   table: {"columns": [{"label", "doc"}], "rows": [{"row": place or -1, "cells": [{"t": text,
//           "v": number to sort by, "best": true where bold}]}]}
//
// A plot has a "kind" and is there only when the run has its data; "row" is a place in "rows".

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "eval/catalogue.h"

namespace kvlab {

/// A run directory, read or about to be written.
struct PageSource {
  std::vector<Json> results{}, samples{};
  Json record = Json::object();
};

Json page_data(const PageSource& source, const Catalogue& catalogue);

/// results.jsonl, samples.jsonl and record.json.  E_FILE, E_FORMAT.
PageSource read_page_source(const std::filesystem::path& run);

}  // namespace kvlab
