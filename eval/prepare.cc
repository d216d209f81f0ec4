#include "eval/prepare.h"

#include "core/error.h"
#include "core/version.h"

namespace kvlab {

MethodSpec method_to_prepare(const Json& text, const Registry& registry) {
  const std::vector<MethodSpec> specs = parse_methods(text, registry);
  KVLAB_REQUIRE(specs.size() == 1, "E_CONFIG", "prepare: `", label(specs), "` is ", specs.size(),
                " methods; prepare them one by one and name each file as its `artifact`");
  KVLAB_REQUIRE(specs[0].artifact.empty(), "E_CONFIG", "prepare: ", specs[0].name,
                " names an `artifact`, which is what is to be made; leave it out");
  KVLAB_REQUIRE(registry.method(specs[0].name).prepare != nullptr, "E_UNSUPPORTED",
                "prepare: ", specs[0].name, " has no offline step; name it in a config as it is");
  return specs[0];
}

Artifact prepare(const Preparation& preparation, Model& model, const Registry& registry) {
  const MethodSpec& spec = preparation.method;
  const std::unique_ptr<ModelAccess> access = model.access();
  const Artifact made =
      registry.method(spec.name).prepare({.model = access.get(),
                                          .params = &spec.params,
                                          .tokens = preparation.tokens,
                                          .progress = [&](double share, const std::string& what) {
                                            if (preparation.progress)
                                              preparation.progress(share, what);
                                          }});
  Json header = made.header();
  header["method"] = spec.name;
  header["method_params"] = spec.params;
  header["model"] = model.shape().fingerprint;
  header["made"] = {{"kvlab", version().number},
                    {"commit", version().commit},
                    {"model", preparation.model},
                    {"dtype", name_of(model.dtype())},
                    {"data", preparation.data}};
  return {std::move(header), made.tensors()};
}

}  // namespace kvlab
