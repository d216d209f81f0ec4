#pragma once
// What is known by name: methods and codecs.  No static registrars: a generated table calls every
// register function (register_all, written by the build), plugins add theirs.

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/codec.h"
#include "core/method.h"

namespace kvlab {

/// In a config this name means several methods at once (core/compose.h): no method may have it.
inline constexpr std::string_view kComposeName = "compose";

class Registry {
 public:
  /// E_CONFIG when the name is taken or not [a-z][a-z0-9_]*, or its schema does not parse (E_FORMAT
  /// when that is no JSON).
  void add(Method method);
  void add(Codec codec);
  /// E_UNKNOWN with the nearest name.  References stay valid while the registry lives.
  const Method& method(std::string_view name) const;
  const Codec& codec(std::string_view name) const;
  const Schema& method_schema(std::string_view name) const;
  const Schema& codec_schema(std::string_view name) const;
  bool has_method(std::string_view name) const;
  bool has_codec(std::string_view name) const;
  std::vector<std::string> methods() const;  // sorted
  std::vector<std::string> codecs() const;

 private:
  template <class T>
  struct Entry {
    Entry(T&& named, Schema&& parsed) : value(std::move(named)), schema(std::move(parsed)) {}
    T value;
    Schema schema;
  };
  std::map<std::string, Entry<Method>, std::less<>> methods_{};
  std::map<std::string, Entry<Codec>, std::less<>> codecs_{};
};

/// Everything this build contains: the codecs of kernels/ and each folder of methods/.
void register_all(Registry& registry);

}  // namespace kvlab
