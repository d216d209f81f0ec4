#include "tests/conformance/subjects.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "tests/example_methods/example_methods.h"
#include "tests/support/error.h"
#include "tests/support/scratch.h"

namespace kvlab::test {
namespace {

/// A count of tokens the text outgrows.
constexpr int64_t kFewTokens = 5;

/// One method as a config writes it, or why it refuses these parameters.
struct Prepared {
  Json spec{};
  std::string refusal = "no error";
};

const Network& network() {
  static const Network one(network_config());
  return one;
}

std::string refusal_of(const Json& spec) {
  return error_of(
      [&] { check_composition(parse_methods(spec, registry()), network().shape(), registry()); });
}

/// Runs the method's offline step where it has one, and writes what it made.
Prepared prepare(const Json& spec) {
  static const Scratch folder;
  static int files = 0;
  Prepared prepared{.spec = spec};
  const MethodSpec method = parse_methods(spec, registry())[0];
  if (registry().method(method.name).prepare != nullptr) {
    const auto path = folder / (std::to_string(files++) + ".safetensors");
    prepared.spec["artifact"] = path.string();
    prepared.refusal = error_of([&] { test::prepare(network(), registry(), method).save(path); });
  }
  if (prepared.refusal == "no error") prepared.refusal = refusal_of(prepared.spec);
  return prepared;
}

/// Each once.
const Prepared& method(const std::string& name, const Json& params) {
  static std::map<std::string, Prepared> all;
  const Json spec{{"name", name}, {"params", params}};
  const auto [found, is_new] = all.try_emplace(canonical(spec));
  if (is_new) found->second = prepare(spec);
  return found->second;
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

std::string text_of(const Json& value) {
  std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  std::ranges::replace_if(text, [](char c) { return !std::isalnum(static_cast<u8>(c)); }, '_');
  return text;
}

std::vector<Subject> singles() {
  std::vector<Subject> all;
  const auto add = [&](const std::string& name, const Prepared& prepared) {
    if (prepared.refusal == "no error") all.push_back({name, prepared.spec});
  };
  for (const std::string& name : registry().methods()) {
    add(name, method(name, Json::object()));
    for (const Parameter& parameter : registry().method_schema(name).parameters())
      for (const Json& value : others(parameter)) {
        Json params = few_tokens(name);
        params[parameter.name] = value;
        add(name + "_" + parameter.name + "_" + text_of(value), method(name, params));
      }
  }
  return all;
}

struct Pairs {
  std::vector<Subject> legal{};
  std::vector<RefusedPair> refused{};

  Pairs() {
    const Json defaults = Json::object();
    for (const std::string& a : registry().methods())
      for (const std::string& b : registry().methods()) {
        add(a + "_and_" + b, method(a, defaults), method(b, defaults));
        const Json few_a = few_tokens(a), few_b = few_tokens(b);
        if (!few_a.empty() || !few_b.empty())
          add(a + "_and_" + b + "_few", method(a, few_a), method(b, few_b));
      }
  }
  /// Unless one of them cannot be had at all.
  void add(const std::string& name, const Prepared& a, const Prepared& b) {
    if (a.refusal != "no error" || b.refusal != "no error") return;
    const Json spec{{"name", "compose"}, {"params", {{"stages", {a.spec, b.spec}}}}};
    const std::string refusal = refusal_of(spec);
    if (refusal == "no error")
      legal.push_back({name, spec});
    else
      refused.push_back({a.spec["name"], b.spec["name"], refusal});
  }
};

const Pairs& pairs() {
  static const Pairs all;
  return all;
}

}  // namespace

NetworkConfig network_config(unsigned text) {
  return {.heads = 4,
          .kv_heads = 2,
          .head_dim = 32,
          .value_dim = 32,
          .width = 64,
          .tokens = kTokens,
          .text = text};
}

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
std::string refusal_of_defaults(const std::string& name) {
  return method(name, Json::object()).refusal;
}
const std::vector<Subject>& pair_subjects() { return pairs().legal; }
const std::vector<RefusedPair>& refused_pairs() { return pairs().refused; }

}  // namespace kvlab::test
