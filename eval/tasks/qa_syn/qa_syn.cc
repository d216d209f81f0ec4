// Questions about generated documents: the shape of RULER's qa tasks without a data set.  qa_syn_1
// asks for one fact of one document; in qa_syn_2 that fact's subject is named by another document.
//
//   Document 3: The rival of mukabo-nudumo is sisaha-bibico. The cook of mukabo-nudumo is ...
//
// Draws, in this order: the document with the answer, the one that leads to it, the distractors,
// the shuffle of all.  A document: its entity, 4 + below(5) facts, that many attributes without
// replacement, their values; of those asked, then which fact.  Entities and values are distinct
// words; the fact that leads on has the other document's entity for its value.

#include "eval/catalogue.h"
#include "eval/synthetic/needle.h"
#include "eval/synthetic/text_task.h"

namespace kvlab::tasks::qa_syn {
namespace {

constexpr const char* kAttributes[] = {
    "builder", "cook",  "doctor", "envoy",     "founder", "guide", "heir",   "judge",
    "keeper",  "rival", "singer", "neighbour", "partner", "pilot", "patron", "teacher"};

struct Document {
  std::string entity{};
  std::vector<std::string> attributes{}, values{};
  size_t asked = 0;
  bool is_asked = false;
  std::string fact(size_t i) const {
    return "The " + attributes[i] + " of " + entity + " is " + values[i] + ".";
  }
};

Document draw_document(SplitMix64& random, Distinct& distinct) {
  Document document{.entity = distinct.value(random, ValueKind::words)};
  const size_t facts = 4 + random.below(5);
  document.attributes = random.sample(
      std::vector<std::string>(std::begin(kAttributes), std::end(kAttributes)), facts);
  while (document.values.size() < facts)
    document.values.push_back(distinct.value(random, ValueKind::words));
  return document;
}

/// The document that holds the answer, then the one that names its entity, and so on.
std::vector<Document> draw_chain(SplitMix64& random, Distinct& distinct, size_t hops) {
  std::vector<Document> chain;
  for (size_t hop = 0; hop < hops; ++hop) {
    Document document = draw_document(random, distinct);
    document.asked = random.below(document.values.size());
    document.is_asked = true;
    if (hop > 0) document.values[document.asked] = chain.back().entity;
    chain.push_back(std::move(document));
  }
  return chain;
}

/// "cook of the rival of mukabo-nudumo".
std::string asked_for(const std::vector<Document>& chain) {
  std::string text;
  for (const Document& document : chain)
    text += (text.empty() ? "" : " of the ") + document.attributes[document.asked];
  return text + " of " + chain.back().entity;
}

TextQuestion make(size_t hops, SplitMix64& random, int64_t units) {
  Distinct distinct;
  std::vector<Document> documents = draw_chain(random, distinct, hops);
  const std::string what = asked_for(documents);
  TextQuestion question{.turns = {{.query = "What is the " + what + "?",
                                   .answer_prefix = " The " + what + " is",
                                   .answers = {documents[0].values[documents[0].asked]}}}};
  for (int64_t i = 0; i < units; ++i) documents.push_back(draw_document(random, distinct));
  random.shuffle(documents);
  std::string& text = question.context;
  for (size_t i = 0; i < documents.size(); ++i) {
    const Document& document = documents[i];
    text += "Document " + std::to_string(i + 1) + ":";
    for (size_t fact = 0; fact < document.values.size(); ++fact) {
      text += " ";
      const auto begin = static_cast<int64_t>(text.size());
      text += document.fact(fact);
      if (document.is_asked && fact == document.asked)
        question.needles.push_back({begin, static_cast<int64_t>(text.size())});
    }
    text += "\n";
  }
  return question;
}

Work prepare(const std::string& name, size_t hops, const TaskSetup& setup) {
  const Json& params = *setup.params;
  return text_work(setup, {.name = name,
                           .lengths = {params.at("length")},
                           .samples_per_length = params.at("samples"),
                           .make = [=](SplitMix64& random, int64_t,
                                       int64_t units) { return make(hops, random, units); },
                           .match = "any",
                           .metrics = {"string_match_any", "string_match_strict",
                                       "needle_retention", "retrieval_given_kept", "empty_answers"},
                           .facts = {{"style", "RULER-style"}}});
}

}  // namespace

void register_task(Catalogue& catalogue) {
  for (const size_t hops : {1, 2}) {
    const std::string name = "qa_syn_" + std::to_string(hops);
    catalogue.add(
        Task{.name = name,
             .summary = hops == 1 ? "RULER-style: a fact of one of many generated documents"
                                  : "RULER-style: a fact that two of many documents lead to",
             .schema = [](const Json&) { return text_schema(Json::object(), 32); },
             .prepare = [=](const TaskSetup& setup) { return prepare(name, hops, setup); }});
  }
}

}  // namespace kvlab::tasks::qa_syn
