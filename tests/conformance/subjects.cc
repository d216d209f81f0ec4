#include "tests/conformance/subjects.h"

#include <algorithm>

#include "core/error.h"
#include "tests/example_methods/example_methods.h"
#include "tests/support/error.h"
#include "tests/support/network.h"

namespace kvlab::test {
namespace {

/// A count of tokens a text of 40 outgrows.
constexpr int64_t kFewTokens = 5;

Json method(const std::string& name, const Json& params) {
  return {{"name", name}, {"params", params}};
}

bool counts_tokens(const Parameter& parameter) {
  return parameter.unit == "token" && parameter.standard.is_number_integer();
}

/// Every count of tokens small.
Json few_tokens(const std::string& name) {
  Json params = Json::object();
  for (const Parameter& parameter : registry().method_schema(name).parameters())
    if (counts_tokens(parameter)) params[parameter.name] = kFewTokens;
  return params;
}

/// Other values of one parameter.
std::vector<Json> others(const Parameter& parameter) {
  std::vector<Json> values = parameter.choices;
  if (parameter.types == std::vector<std::string>{"boolean"}) values = {true, false};
  if (counts_tokens(parameter)) values = {parameter.minimum, kFewTokens};
  std::erase(values, parameter.standard);
  return values;
}

/// Whether the method, by itself, takes these parameters.
bool is_accepted(const Json& spec) {
  const std::string refusal = error_of(
      [&] { check_composition(parse_methods(spec, registry()), Network({}).shape(), registry()); });
  return !refusal.starts_with("E_CONFIG");
}

std::string text_of(const Json& value) {
  std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  std::ranges::replace_if(text, [](char c) { return !std::isalnum(static_cast<u8>(c)); }, '_');
  return text;
}

std::vector<Subject> singles() {
  std::vector<Subject> all;
  for (const std::string& name : registry().methods()) {
    all.push_back({name, name});
    for (const Parameter& parameter : registry().method_schema(name).parameters())
      for (const Json& value : others(parameter)) {
        Json params = few_tokens(name);
        params[parameter.name] = value;
        all.push_back({name + "_" + parameter.name + "_" + text_of(value), method(name, params)});
      }
  }
  std::erase_if(all, [](const Subject& subject) { return !is_accepted(subject.spec); });
  return all;
}

struct Pairs {
  std::vector<Subject> legal{};
  std::vector<RefusedPair> refused{};

  Pairs() {
    for (const std::string& a : registry().methods())
      for (const std::string& b : registry().methods()) {
        add(a, b, "", {a, b});
        const Json few_a = few_tokens(a), few_b = few_tokens(b);
        if (!few_a.empty() || !few_b.empty())
          add(a, b, "_few", {method(a, few_a), method(b, few_b)});
      }
  }
  void add(const std::string& a, const std::string& b, const std::string& variant,
           const Json& stages) {
    const Json spec = method("compose", {{"stages", stages}});
    const std::string refusal = error_of([&] {
      check_composition(parse_methods(spec, registry()), Network({}).shape(), registry());
    });
    if (refusal == "no error")
      legal.push_back({a + "_and_" + b + variant, spec});
    else
      refused.push_back({a, b, refusal});
  }
};

const Pairs& pairs() {
  static const Pairs all;
  return all;
}

}  // namespace

const Registry& registry() {
  static const Registry all = [] {
    Registry made;
    register_all(made);
    register_example_methods(made);
    return made;
  }();
  return all;
}

const std::vector<Subject>& single_subjects() {
  static const std::vector<Subject> all = singles();
  return all;
}
const std::vector<Subject>& pair_subjects() { return pairs().legal; }
const std::vector<RefusedPair>& refused_pairs() { return pairs().refused; }

}  // namespace kvlab::test
