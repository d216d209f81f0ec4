// kvlab::Cache for Python: what is given is checked here, once; what follows is libkvlab's.

#include "core/cache.h"

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <atomic>
#include <optional>

#include "bindings/parts.h"
#include "bindings/tensor.h"
#include "core/error.h"
#include "core/row_dtype.h"
#include "kernels/cpu_engine.h"

namespace py = pybind11;

namespace kvlab::python {
namespace {

template <class T>
T get(const py::handle& object, const char* name) {
  return object.attr(name).cast<T>();
}

// --- what a network looks like: kvlab.ModelShape and its parts (bindings/kvlab/shape.py) ---

Rope rope_of(const py::handle& given) {
  if (given.is_none()) return {};
  const auto style = get<std::string>(given, "style");
  KVLAB_REQUIRE(style == "half_split" || style == "interleaved", "E_SHAPE", "Rope: style `",
                printable(style), "` is neither half_split nor interleaved");
  return {.style = style == "half_split" ? Rope::Style::half_split : Rope::Style::interleaved,
          .rotary_dim = get<int>(given, "rotary_dim"),
          .inv_freq = get<std::vector<double>>(given, "inv_freq"),
          .attention_factor = get<double>(given, "attention_factor")};
}

Layer layer_of(const py::handle& given, int block) {
  return {.block = block,
          .num_heads = get<int>(given, "num_heads"),
          .num_kv_heads = get<int>(given, "num_kv_heads"),
          .head_dim = get<int>(given, "head_dim"),
          .value_dim = get<int>(given, "value_dim"),
          .scale = get<double>(given, "scale"),
          .softcap = get<double>(given, "softcap"),
          .window_left = get<int64_t>(given, "window_left"),
          .rope = rope_of(given.attr("rope")),
          .learned_sink = get<bool>(given, "learned_sink"),
          .alibi_slopes = get<std::vector<float>>(given, "alibi_slopes"),
          .distance_bias = get<int>(given, "distance_bias")};
}

ModelShape shape_of(const py::handle& given) {
  ModelShape shape{.architecture = get<std::string>(given, "architecture"),
                   .fingerprint = get<std::string>(given, "fingerprint"),
                   .width = get<int>(given, "width"),
                   .vocab_size = get<int64_t>(given, "vocab_size"),
                   .max_positions = get<int64_t>(given, "max_positions")};
  for (const py::handle layer : given.attr("layers"))
    shape.layers.push_back(layer_of(layer, static_cast<int>(shape.layers.size())));
  check(shape);
  return shape;
}

// --- where it lives ---

template <class Enum>
Enum choice(std::string_view what, const std::string& given,
            std::initializer_list<std::pair<const char*, Enum>> choices) {
  std::vector<std::string> known;
  for (const auto& [name, value] : choices) {
    if (given == name) return value;
    known.emplace_back(name);
  }
  fail("E_UNKNOWN", "cache: ", what, " `", printable(given), "`", suggestion(given, known));
}

Dtype run_dtype_of(const std::string& name) {
  const Dtype dtype = dtype_named(name);
  KVLAB_REQUIRE(is_row_dtype(dtype), "E_UNSUPPORTED", "cache: rows of dtype ", name, "; they are ",
                kRowDtypes);
  return dtype;
}

Where where_of(const py::dict& given) {
  using Addressing = Where::Addressing;
  const auto text = [&](const char* key) { return given[key].cast<std::string>(); };
  const auto number = [&](const char* key) { return given[key].cast<int64_t>(); };
  Where where{.engine = make_cpu_engine({.threads = given["threads"].cast<int>()}),
              .run_dtype = run_dtype_of(text("dtype")),
              .addressing = choice<Addressing>("addressing", text("addressing"),
                                               {{"automatic", Addressing::automatic},
                                                {"paged", Addressing::paged},
                                                {"contiguous", Addressing::contiguous}}),
              .page_tokens = given["page_tokens"].cast<int>(),
              .max_bytes = number("max_bytes"),
              .max_tokens = number("max_tokens"),
              .rollback = number("rollback"),
              .compact_share = given["compact_share"].cast<double>(),
              .level = choice<Level>("level", text("level"),
                                     {{"automatic", Level::automatic},
                                      {"fused", Level::fused},
                                      {"absorbed", Level::absorbed},
                                      {"materialised", Level::materialised}})};
  if (const int64_t tokens = number("split_tokens"); tokens != 0)
    where.split = {.kind = SplitPolicy::Kind::fixed, .tokens = tokens};
  return where;
}

// --- rows of a pass ---

/// The rows of a pass or of the newest tokens of each of its sequences; owns what a RowMap views.
struct PassRows {
  std::vector<SeqId> sequences{};
  std::vector<int32_t> indptr{0}, positions{};

  void add(SeqId sequence, int64_t first, int64_t count) {
    sequences.push_back(sequence);
    for (int64_t i = 0; i < count; ++i) positions.push_back(static_cast<int32_t>(first + i));
    indptr.push_back(static_cast<int32_t>(positions.size()));
  }
  RowMap map() const { return {sequences, indptr, positions}; }
  int64_t size() const { return std::ssize(positions); }
  /// Tokens of every sequence, or 0 where they differ.
  int64_t tokens_each() const {
    const int64_t count = indptr[1] - indptr[0];
    for (size_t i = 1; i + 1 < indptr.size(); ++i)
      if (indptr[i + 1] - indptr[i] != count) return 0;
    return count;
  }
};

/// [R, ...] as it is, or [B, T, ...] as rows where that moves nothing.
TensorView as_rows(TensorView view, int dims, const PassRows& rows, const std::string& who) {
  if (view.dims != dims + 1) return view;
  const auto sequences = std::ssize(rows.sequences);
  KVLAB_REQUIRE(view.size(0) == sequences && view.size(1) == rows.tokens_each(), "E_SHAPE", who,
                " is ", sizes_text(view), ": its first two sizes are not the ", sequences,
                " sequences of the chunk and the tokens of each; with unequal numbers of tokens ",
                "pass the rows one after another, [", rows.size(), ", ...]");
  const bool one_by_one = view.size(0) == 1 || view.size(1) == 1;
  KVLAB_REQUIRE(one_by_one || view.stride(0) == view.stride(1) * view.size(1), "E_SHAPE", who,
                ": the rows of its sequences do not follow each other in memory, and a cache ",
                "copies nothing unasked; pass it `.contiguous()`");
  TensorView flat{.data = view.data, .dtype = view.dtype, .device = view.device, .dims = dims};
  flat.sizes[0] = view.size(0) * view.size(1);
  flat.strides[0] = view.size(1) == 1 ? view.stride(0) : view.stride(1);
  for (int i = 1; i < dims; ++i) {
    flat.sizes[static_cast<size_t>(i)] = view.size(i + 1);
    flat.strides[static_cast<size_t>(i)] = view.stride(i + 1);
  }
  return flat;
}

struct Field {
  const char* name;
  Needs need;
  int dims;
  TensorView Append::* member;  // absent: token_ids
};
constexpr std::array<Field, 6> kFields{
    {{"hidden", Needs::hidden, 2, &Append::hidden},
     {"keys_pre_rope", Needs::keys_pre_rope, 3, &Append::keys_pre_rope},
     {"keys", Needs::keys, 3, &Append::keys},
     {"values", Needs::values, 3, &Append::values},
     {"queries", Needs::queries, 3, &Append::queries},
     {"token_ids", Needs::token_ids, 1, nullptr}}};

/// A cache and what a pass needs between its calls.  One thread at a time may be inside: work is
/// done without Python's lock, so a second one could come.
class PyCache {
 public:
  PyCache(const py::handle& shape, const py::handle& method, const py::dict& where) {
    const std::vector<MethodSpec> specs =
        parse_methods(to_json(method, "cache: method"), registry());
    const ModelShape model = shape_of(shape);
    const Where place = where_of(where);
    cache_.emplace(model, compose(specs, model, registry(), nullptr, place.run_dtype), registry(),
                   place);
  }

  /// `act` with the cache, without Python's lock.
  template <class Act>
  auto alone(const char* call, Act&& act) {
    KVLAB_REQUIRE(!busy_.test_and_set(), "E_ORDER", "cache: ", call,
                  " while another thread is inside this cache; give each thread its own");
    struct Leave {
      std::atomic_flag& busy;
      ~Leave() { busy.clear(); }
    } leave{busy_};
    const py::gil_scoped_release release;
    return act(*cache_);
  }

  void begin_chunk(const std::vector<std::pair<int64_t, int64_t>>& tokens,
                   const std::vector<int32_t>& token_ids, const std::string& read) {
    const ReadPolicy policy = read_policy_named(read);
    alone("begin_chunk", [&](Cache& cache) {
      PassRows rows;
      for (const auto& [id, count] : tokens) {
        KVLAB_REQUIRE(count > 0 && count <= kForever, "E_SHAPE", "cache: begin_chunk: sequence ",
                      id, " with ", count, " tokens; it needs at least one");
        rows.add(SeqId{id}, cache.tokens_seen(SeqId{id}), count);
      }
      cache.begin_chunk({.rows = rows.map(), .token_ids = token_ids, .read = policy});
      rows_ = std::move(rows);
      token_ids_ = token_ids;
    });
  }

  std::vector<std::string> needs(int layer, std::optional<int64_t> rows) {
    const Needs wanted = alone(
        "needs", [&](Cache& cache) { return cache.needs(layer, rows.value_or(rows_.size())); });
    std::vector<std::string> names;
    for (const Field& field : kFields)
      if (has(wanted, field.need)) names.emplace_back(field.name);
    return names;
  }

  void append(int layer, const py::dict& fields) {
    require_open("append");
    Append given{.layer = layer, .rows = rows_.map()};
    for (const Field& field : kFields) {
      if (field.member == nullptr || fields[field.name].is_none()) continue;
      const std::string who = "cache: append to layer " + std::to_string(layer) + ": " + field.name;
      given.*field.member = as_rows(view_of(fields[field.name], who), field.dims, rows_, who);
    }
    alone("append", [&](Cache& cache) {
      if (has(cache.needs(layer, rows_.size()), Needs::token_ids)) given.token_ids = token_ids_;
      cache.append(given);
    });
  }

  /// (out, lse_ln or None)
  py::tuple attend(int layer, const py::object& queries, bool rotated,
                   std::optional<int64_t> newest, const std::vector<float>& sinks,
                   const py::object& distance_bias, bool lse) {
    require_open("attend");
    const std::string site_name = "cache: attend on layer " + std::to_string(layer);
    const std::string who = site_name + ": queries";
    const PassRows rows = newest ? newest_rows(*newest) : rows_;
    const TensorView given = view_of(queries, who);
    const TensorView packed = as_rows(given, 3, rows, who);
    KVLAB_REQUIRE(packed.dims == 3, "E_SHAPE", who, " is ", sizes_text(given),
                  ", neither [rows, heads, head_dim] nor [sequences, tokens, heads, head_dim]");
    const Layer& site = site_of(layer);

    std::vector<int64_t> sizes(given.sizes.begin(), given.sizes.begin() + given.dims - 1);
    const py::object lse_ln = lse ? empty(sizes, Dtype::f32) : py::none();
    sizes.push_back(site.value_dim);
    const py::object out = empty(sizes, given.dtype);
    Attend call{.layer = layer,
                .rows = rows.map(),
                .queries = packed,
                .rotated = rotated,
                .out = as_rows(view_of(out, who), 3, rows, who),
                .sinks = sinks};
    if (!distance_bias.is_none())
      call.distance_bias = view_of(distance_bias, site_name + ": distance_bias");
    if (lse) call.lse_ln = as_rows(view_of(lse_ln, who), 2, rows, who);
    alone("attend", [&](Cache& cache) { cache.attend(call); });
    return py::make_tuple(out, lse_ln);
  }

  void end_chunk(const std::string& end) {
    const auto kind = choice<ChunkEnd>(
        "end", end,
        {{"chunk", ChunkEnd::chunk}, {"prompt", ChunkEnd::prompt}, {"step", ChunkEnd::step}});
    alone("end_chunk", [&](Cache& cache) { cache.end_chunk(kind); });
  }

  /// Keys before RoPE [n, Hkv, d] and values [n, Hkv, dv], float32.
  py::tuple materialise(int layer, int64_t sequence, int64_t first, int64_t last) {
    const Layer& site = site_of(layer);
    KVLAB_REQUIRE(0 <= first && first < last && last <= kForever, "E_POSITION",
                  "cache: materialise: [", first, ", ", last, ") holds no positions");
    const py::object keys = empty({last - first, site.num_kv_heads, site.head_dim}, Dtype::f32);
    const py::object values = empty({last - first, site.num_kv_heads, site.value_dim}, Dtype::f32);
    const TensorView to_keys = view_of(keys, "keys"), to_values = view_of(values, "values");
    alone("materialise", [&](Cache& cache) {
      cache.materialise(layer, SeqId{sequence}, {first, last}, to_keys, to_values);
    });
    return py::make_tuple(keys, values);
  }

 private:
  void require_open(const char* call) {
    KVLAB_REQUIRE(alone(call, [](Cache& cache) { return cache.in_chunk(); }), "E_ORDER",
                  "cache: ", call, " belongs between begin_chunk and end_chunk");
  }

  const Layer& site_of(int layer) const {
    const auto& layers = cache_->shape().layers;
    KVLAB_REQUIRE(layer >= 0 && layer < std::ssize(layers), "E_LAYER", "cache: there is no layer ",
                  layer, "; the model has ", layers.size());
    return layers[static_cast<size_t>(layer)];
  }

  PassRows newest_rows(int64_t count) const {
    PassRows newest;
    for (size_t i = 0; i < rows_.sequences.size(); ++i) {
      const int64_t tokens = rows_.indptr[i + 1] - rows_.indptr[i];
      KVLAB_REQUIRE(count > 0 && count <= tokens, "E_POSITION", "cache: attend: newest ", count,
                    " of the ", tokens, " tokens that the chunk brings to sequence ",
                    static_cast<int64_t>(rows_.sequences[i]));
      const int32_t last = rows_.positions[static_cast<size_t>(rows_.indptr[i + 1]) - 1];
      newest.add(rows_.sequences[i], last + 1 - count, count);
    }
    return newest;
  }

  std::optional<Cache> cache_{};
  PassRows rows_{};  // of the open chunk
  std::vector<int32_t> token_ids_{};
  std::atomic_flag busy_{};
};

py::dict describe(const Bytes& bytes) {
  py::dict out;
  out["payload"] = bytes.payload;
  out["metadata"] = bytes.metadata;
  out["residual"] = bytes.residual;
  out["state"] = bytes.state;
  out["committed"] = bytes.committed;
  out["reserved"] = bytes.reserved;
  out["scratch"] = bytes.scratch;
  out["scratch_peak"] = bytes.scratch_peak;
  return out;
}

py::dict describe(const Ran& ran) {
  py::dict out;
  out["level"] = ran.level;
  out["kernel"] = ran.kernel;
  out["reason"] = ran.reason;
  out["bytes_read"] = ran.bytes_read;
  out["flops"] = ran.flops;
  out["scratch_bytes"] = ran.scratch_bytes;
  out["certified_error"] = ran.certified_error;
  return out;
}

}  // namespace

void add_cache(py::module_& module) {
  using py::arg;
  const auto id_of = [](SeqId sequence) { return static_cast<int64_t>(sequence); };
  py::class_<PyCache>(module, "Cache")
      .def(py::init<py::handle, py::handle, py::dict>(), arg("shape"), arg("method"), arg("where"))
      .def("add_sequence",
           [=](PyCache& self) {
             return id_of(self.alone("add_sequence", [](Cache& c) { return c.add_sequence(); }));
           })
      .def("fork",
           [=](PyCache& self, int64_t sequence) {
             return id_of(self.alone("fork", [&](Cache& c) { return c.fork(SeqId{sequence}); }));
           })
      .def("drop",
           [](PyCache& self, int64_t sequence) {
             self.alone("drop", [&](Cache& c) { c.drop(SeqId{sequence}); });
           })
      .def("truncate",
           [](PyCache& self, int64_t sequence, int64_t tokens) {
             self.alone("truncate", [&](Cache& c) { c.truncate(SeqId{sequence}, tokens); });
           })
      .def("tokens_seen",
           [](PyCache& self, int64_t sequence) {
             return self.alone("tokens_seen",
                               [&](Cache& c) { return c.tokens_seen(SeqId{sequence}); });
           })
      .def("begin_chunk", &PyCache::begin_chunk, arg("tokens"), arg("token_ids"), arg("read"))
      .def("needs", &PyCache::needs, arg("layer"), arg("rows"))
      .def("append", &PyCache::append, arg("layer"), arg("fields"))
      .def("attend", &PyCache::attend, arg("layer"), arg("queries"), arg("rotated"), arg("newest"),
           arg("sinks"), arg("distance_bias"), arg("lse"))
      .def("end_chunk", &PyCache::end_chunk, arg("end"))
      .def("cancel_chunk",
           [](PyCache& self) { self.alone("cancel_chunk", [](Cache& c) { c.cancel_chunk(); }); })
      .def("in_chunk",
           [](PyCache& self) {
             return self.alone("in_chunk", [](Cache& c) { return c.in_chunk(); });
           })
      .def("bytes",
           [](PyCache& self, int layer) {
             return describe(self.alone("bytes", [&](Cache& c) { return c.bytes(layer); }));
           })
      .def("ran",
           [](PyCache& self, int layer) {
             return describe(self.alone("ran", [&](Cache& c) { return c.ran(layer); }));
           })
      .def("live_rows",
           [](PyCache& self, int layer, int64_t sequence) {
             return self.alone("live_rows",
                               [&](Cache& c) { return c.live_rows(layer, SeqId{sequence}); });
           })
      .def("positions",
           [](PyCache& self, int layer, int64_t sequence, int list) {
             return self.alone("positions",
                               [&](Cache& c) { return c.positions(layer, SeqId{sequence}, list); });
           })
      .def("materialise", &PyCache::materialise, arg("layer"), arg("sequence"), arg("first"),
           arg("last"))
      .def("save",
           [](PyCache& self, int64_t sequence, const std::filesystem::path& path) {
             self.alone("save", [&](Cache& c) { c.save(SeqId{sequence}, path); });
           })
      .def("load",
           [=](PyCache& self, const std::filesystem::path& path) {
             return id_of(self.alone("load", [&](Cache& c) { return c.load(path); }));
           })
      .def("identity", [](PyCache& self) {
        return to_python(self.alone("identity", [](Cache& c) { return c.identity(); }));
      });
}

}  // namespace kvlab::python
