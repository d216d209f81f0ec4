// dump_logits REQUEST.json OUT.safetensors: what a model computes, for comparison with another
// implementation of the same network.
//
//   {"model": {...},                       as in an experiment's config
//    "method": "dense",                    what the cache is made of
//    "runs": [{"name": "chunks", "sequences": [[1, 2, 3], [4, 5]], "chunk": 2},  0: in one pass
//             {"name": "definition", "sequences": [[1, 2, 3]], "attention": "definition"}],
//    "generate": [{"name": "greedy", "prompts": [[1, 2], [3]], "max_new": 8, "chunk": 2}]}
//
// Of a model with an encoder, runs and generations also have "sources", one for each sequence:
// encoder tokens, or [mel bins][frames] of features.
//
// Logits of sequence i of a run are the tensor "NAME.i", float32 [tokens, V]; generated tokens are
// "NAME.i", int32 [n].  All sequences of a run share its passes.  "definition" leaves the cache
// out: attention is computed from its definition, over the sequence itself.

#include <algorithm>
#include <cstring>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "core/compose.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "eval/generate.h"
#include "eval/model.h"
#include "eval/models/huggingface.h"
#include "eval/pass_rows.h"
#include "kernels/cpu_engine.h"
#include "tests/eval/models/defined_attention.h"

namespace kvlab {
namespace {

using Tokens = std::vector<int32_t>;

/// What an encoder reads; nothing where the request names none.
struct Source {
  Tokens tokens{};
  Tensor features{};

  Source(const Json& run, size_t index) {
    if (!run.contains("sources")) return;
    const Json& given = run.at("sources").at(index);
    if (!given.at(0).is_array()) {
      tokens = given.get<Tokens>();
      return;
    }
    const auto rows = given.get<std::vector<std::vector<float>>>();
    features = make_tensor("features", Dtype::f32, {std::ssize(rows), std::ssize(rows.at(0))});
    for (size_t r = 0; r < rows.size(); ++r)
      std::ranges::copy(rows[r],
                        reinterpret_cast<float*>(features.view.at(static_cast<int64_t>(r))));
  }
};

class Dump {
 public:
  explicit Dump(const Json& request) : request_(request), spec_(request.at("model")) {}

  std::vector<Tensor> run() {
    for (const Json& run : request_.value("runs", Json::array()))
      if (run.value("attention", "cache") == "definition")
        by_definition(run);
      else
        through_cache(run);
    for (const Json& run : request_.value("generate", Json::array())) generated(run);
    return std::move(tensors_);
  }

 private:
  Model& model() {
    if (!model_) model_ = load_model(spec_);
    return *model_;
  }

  std::unique_ptr<Cache> new_cache() {
    const Json method = request_.value("method", Json("dense"));
    const ModelShape& shape = model().shape();
    Composition composition =
        compose(parse_methods(method, registry_), shape, registry_, nullptr, model().dtype());
    return std::make_unique<Cache>(
        shape, std::move(composition), registry_,
        Where{.engine = make_cpu_engine(), .run_dtype = model().dtype()});
  }

  static std::string tensor_name(const Json& run, size_t index) {
    return run.at("name").get<std::string>() + "." + std::to_string(index);
  }

  Tensor& new_logits(const Json& run, size_t index, size_t rows) {
    tensors_.push_back(make_tensor(tensor_name(run, index), Dtype::f32,
                                   {static_cast<int64_t>(rows), model().shape().vocab_size}));
    return tensors_.back();
  }

  HuggingFaceSpec huggingface() const {
    HuggingFaceSpec spec{.directory = spec_.at("path").get<std::string>()};
    if (spec_.value("longrope", "") == "long") spec.longrope = LongRope::for_long;
    return spec;
  }

  void by_definition_of_both(const Json& run) {
    EncoderDecoderNetwork read = read_huggingface_encoder_decoder(huggingface());
    const ModelShape shape = shape_of(read.config);
    const EncoderDecoder network(std::move(read.config), std::move(read.weights));
    const auto sequences = run.at("sequences").get<std::vector<Tokens>>();
    for (size_t i = 0; i < sequences.size(); ++i) {
      const Source source(run, i);
      tensors_.push_back(test::defined_logits(
          network, shape, {.token_ids = source.tokens, .features = source.features.view},
          sequences[i]));
      tensors_.back().name = tensor_name(run, i);
    }
  }

  void encode(Cache& cache, SeqId sequence, const Json& run, size_t index) {
    if (!model().has_encoder()) return;
    const Source source(run, index);
    model().encode(
        cache,
        {.sequence = sequence, .token_ids = source.tokens, .features = source.features.view});
  }

  void by_definition(const Json& run) {
    if (run.contains("sources")) return by_definition_of_both(run);
    const HuggingFaceSpec spec = huggingface();
    Network network = read_huggingface(spec);
    const ModelShape shape = shape_of(network.config);
    const Decoder decoder(std::move(network.config), std::move(network.weights));
    const auto sequences = run.at("sequences").get<std::vector<Tokens>>();
    for (size_t i = 0; i < sequences.size(); ++i) {
      tensors_.push_back(test::defined_logits(decoder, shape, sequences[i]));
      tensors_.back().name = tensor_name(run, i);
    }
  }

  void through_cache(const Json& run) {
    const std::unique_ptr<Cache> cache = new_cache();
    const auto sequences = run.at("sequences").get<std::vector<Tokens>>();
    size_t longest = 0;
    std::vector<SeqId> ids;
    std::vector<Tensor> logits;
    for (size_t i = 0; i < sequences.size(); ++i) {
      ids.push_back(cache->add_sequence());
      encode(*cache, ids.back(), run, i);
      logits.push_back(new_logits(run, i, sequences[i].size()));
      longest = std::max(longest, sequences[i].size());
    }
    const size_t chunk = run.value("chunk", size_t{0}) ? run["chunk"].get<size_t>() : longest;
    for (size_t first = 0; first < longest; first += chunk) {
      PassRows rows;
      std::vector<u8*> places;  // of the wanted rows
      for (size_t i = 0; i < sequences.size(); ++i) {
        const size_t last = std::min(first + chunk, sequences[i].size());
        if (first >= last) continue;
        rows.add(ids[i], static_cast<int64_t>(first),
                 std::span(sequences[i]).subspan(first, last - first), PassRows::Want::all);
        for (size_t t = first; t < last; ++t)
          places.push_back(logits[i].view.at(static_cast<int64_t>(t)));
      }
      const ChunkEnd end = chunk == 1 ? ChunkEnd::step : ChunkEnd::chunk;
      model().forward(*cache, rows.pass(ReadPolicy::raw_chunk, end),
                      [&](int64_t at, TensorView block) {
                        for (int64_t i = 0; i < block.size(0); ++i)
                          std::memcpy(places[static_cast<size_t>(at + i)], block.at(i),
                                      static_cast<size_t>(block.size(1)) * sizeof(float));
                      });
    }
  }

  void generated(const Json& run) {
    const std::unique_ptr<Cache> cache = new_cache();
    const auto texts = run.at("prompts").get<std::vector<Tokens>>();
    std::vector<Prompt> prompts;
    for (size_t i = 0; i < texts.size(); ++i) {
      prompts.push_back({cache->add_sequence(), texts[i]});
      encode(*cache, prompts.back().sequence, run, i);
    }
    const std::vector<Generated> results =
        generate(model(), *cache, prompts,
                 {.max_new = run.at("max_new").get<int64_t>(),
                  .prefill_chunk = run.value("chunk", int64_t{512})});
    for (size_t i = 0; i < results.size(); ++i) {
      tensors_.push_back(
          make_tensor(tensor_name(run, i), Dtype::i32, {std::ssize(results[i].tokens)}));
      std::ranges::copy(results[i].tokens, tensors_.back().view.as<int32_t>());
    }
  }

  const Json& request_;
  const Json& spec_;
  Registry registry_ = [] {
    Registry registry;
    register_all(registry);
    return registry;
  }();
  std::unique_ptr<Model> model_{};
  std::vector<Tensor> tensors_{};
};

}  // namespace
}  // namespace kvlab

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: dump_logits REQUEST.json OUT.safetensors\n";
    return 2;
  }
  const kvlab::Json request = kvlab::read_json(argv[1]);
  kvlab::write_safetensors(argv[2], kvlab::Dump(request).run(), {});
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
