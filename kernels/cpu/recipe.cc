#include "kernels/cpu/recipe.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <sstream>

#include "core/error.h"
#include "kernels/isa.h"

namespace kvlab {
namespace {

/// Of `up` maps and of slices that have a map; width: features the map takes.
void check_up(const Operand& operand, const Layer& shape, int dim, int width, const char* side) {
  const TensorView &up = operand.up, &bias = operand.bias;
  const bool fits = up && up.dtype == Dtype::f32 && up.dims == 3 && up.is_contiguous() &&
                    up.size(0) == shape.num_kv_heads && up.size(1) == dim && up.size(2) == width;
  KVLAB_REQUIRE(fits || (!up && operand.map == Operand::Map::slice), "E_SHAPE",
                "cpu engine: the up map of the ", side, " operand on stream `", operand.stream,
                "` must be contiguous float32 [", shape.num_kv_heads, ", ", dim, ", ", width,
                "] (kv heads, features, features of ",
                operand.map == Operand::Map::slice ? "a slice" : "the stream", ")");
  KVLAB_REQUIRE(!bias || (bias.dtype == Dtype::f32 && bias.dims == 2 && bias.is_contiguous() &&
                          bias.size(0) == shape.num_kv_heads && bias.size(1) == dim),
                "E_SHAPE", "cpu engine: the bias of the ", side, " operand on stream `",
                operand.stream, "` must be contiguous float32 [", shape.num_kv_heads, ", ", dim,
                "]");
}

OperandReader read_operand(const Operand& operand, const PartView& part, const Layer& shape,
                           int dim, Isa isa, const char* side) {
  OperandReader r{.operand = &operand, .dim = dim};
  const int stream = part.page->stream(operand.stream);
  KVLAB_REQUIRE(stream >= 0, "E_SHAPE", "cpu engine: the ", side, " operand reads stream `",
                operand.stream, "`, which the page does not have");
  r.stream = StreamReader(*part.page, stream, isa);
  r.units = r.stream.layout().units * part.lists_per_sequence;
  const int width = r.stream.layout().width;
  KVLAB_REQUIRE(shape.num_kv_heads % r.units == 0, "E_SHAPE", "cpu engine: stream `",
                operand.stream, "` has ", r.units, " units, which do not divide ",
                shape.num_kv_heads, " kv heads");
  if (operand.map == Operand::Map::own)
    KVLAB_REQUIRE(width == dim, "E_SHAPE", "cpu engine: the ", side, " operand reads rows of `",
                  operand.stream, "` as they are, but they have ", width, " features and heads ",
                  dim);
  if (operand.map == Operand::Map::slice)
    KVLAB_REQUIRE(width >= dim * shape.num_kv_heads, "E_SHAPE", "cpu engine: rows of `",
                  operand.stream, "` have ", width, " features, too few for slices of ",
                  shape.num_kv_heads, " heads of ", dim);
  if (operand.map != Operand::Map::own) check_up(operand, shape, dim, r.map_width(), side);
  if (!operand.row_scale.empty()) {
    r.scale_column = part.page->column(operand.row_scale);
    KVLAB_REQUIRE(r.scale_column >= 0, "E_SHAPE", "cpu engine: rows of `", operand.stream,
                  "` are scaled by column `", operand.row_scale, "`, which the page does not have");
  }
  return r;
}

/// Multiply-adds per stored row of one unit: its rows meet the map's short side or its long one.
struct LevelCost {
  int64_t absorbed = 0, built = 0;
  LevelCost(const OperandReader& r, const Layer& shape, int64_t rows_per_head) {
    const int64_t heads = shape.num_kv_heads / r.units, width = r.stream.layout().width;
    absorbed = heads * rows_per_head * width;
    built = heads * width * r.dim + heads * rows_per_head * r.dim;
  }
};

std::string_view name_of(Level level) {
  return level == Level::fused ? "fused" : level == Level::absorbed ? "absorbed" : "materialised";
}

class Reasons {
 public:
  void add(const std::string& reason) {
    if (seen_.insert(reason).second) text_ << (seen_.size() > 1 ? "; " : "") << reason;
  }
  std::string text() const { return text_.str(); }

 private:
  std::set<std::string> seen_{};
  std::ostringstream text_{};
};

/// An up map is absorbed where that is possible and cheaper.
Level settle_up(OperandReader& r, const RecipeRequest& request, Reasons& reasons) {
  const std::string& stream = r.operand->stream;
  KVLAB_REQUIRE(request.level != Level::fused, "E_UNSUPPORTED",
                "cpu engine: level fused was asked for, but stream `", stream,
                "` is read through an up map; use absorbed or materialised");
  const LevelCost cost(r, *request.shape, request.rows_per_head);
  const bool cheaper = cost.absorbed <= cost.built;
  r.built = r.is_rotated || request.level == Level::materialised ||
            (request.level == Level::automatic && !cheaper);
  KVLAB_REQUIRE(request.level != Level::absorbed || !r.built, "E_UNSUPPORTED",
                "cpu engine: level absorbed was asked for, but keys of stream `", stream,
                "` are rotated after their up map; use materialised");
  std::ostringstream why;
  why << "`" << stream << "` " << (r.built ? "rebuilt: " : "absorbed: ");
  if (r.is_rotated)
    why << "RoPE lies between map and logits";
  else
    why << cost.absorbed << " multiply-adds per row absorbed, " << cost.built << " rebuilt";
  reasons.add(why.str());
  return r.built ? Level::materialised : Level::absorbed;
}

/// A slice with a map is built: the query meets no stored row as it is.
Level settle_mapped_slice(OperandReader& r, const RecipeRequest& request, Reasons& reasons) {
  const char* what = r.operand->up ? "a map" : "a bias";
  KVLAB_REQUIRE(request.level == Level::automatic || request.level == Level::materialised,
                "E_UNSUPPORTED", "cpu engine: level ", name_of(request.level),
                " was asked for, but slices of stream `", r.operand->stream, "` have ", what,
                "; use materialised");
  r.built = true;
  reasons.add("`" + r.operand->stream + "` rebuilt: its slices have " + what);
  return Level::materialised;
}

/// Decides what happens to decoded rows; returns the operand's level.
Level settle(OperandReader& r, const RecipeRequest& request, bool is_key, Reasons& reasons) {
  const std::string& stream = r.operand->stream;
  r.is_rotated = is_key && r.operand->rotate && request.shape->rope;
  Level level = Level::fused;
  if (r.is_up()) {
    level = settle_up(r, request, reasons);
  } else if (r.is_slice() && (r.operand->up || r.operand->bias)) {
    level = settle_mapped_slice(r, request, reasons);
  } else if (request.level == Level::materialised) {
    level = Level::materialised;
    r.forced = true;
    reasons.add("materialised because it was asked for");
  }
  const StreamLayout& layout = r.stream.layout();
  if (layout.rotate_hadamard) {
    r.unrotate = r.decodes() || r.is_slice();
    reasons.add("Hadamard rotation of `" + stream + "` " +
                (!r.unrotate    ? "folded: nothing per row"
                 : r.is_slice() ? "undone per row: heads read slices"
                                : "undone per row: RoPE or a rebuild lies between"));
  }
  if (r.is_rotated) reasons.add("`" + stream + "` rotated when read");
  return level;
}

/// What makes two contributions live in one space.
bool same_space(const OperandReader& a, const OperandReader& b) {
  const bool absorbed_a = a.is_up() && !a.built, absorbed_b = b.is_up() && !b.built;
  if (absorbed_a != absorbed_b || a.width() != b.width() ||
      a.folds_hadamard() != b.folds_hadamard())
    return false;
  return !absorbed_a ||
         (a.operand->up.data == b.operand->up.data && a.operand->bias.data == b.operand->bias.data);
}

bool same_space(const SegmentReader& a, const SegmentReader& b) {
  return std::ranges::equal(a.values, b.values,
                            [](const auto& x, const auto& y) { return same_space(x, y); });
}

void put_in_group(Recipe& recipe, int index) {
  SegmentReader& segment = recipe.segments[static_cast<size_t>(index)];
  for (size_t g = 0; g < recipe.groups.size(); ++g) {
    SumGroup& group = recipe.groups[g];
    if (!same_space(recipe.segments[static_cast<size_t>(group.segments.front())], segment))
      continue;
    segment.group = static_cast<int>(g);
    group.segments.push_back(index);
    group.units = std::gcd(group.units, segment.key.units);
    for (const OperandReader& v : segment.values) group.units = std::gcd(group.units, v.units);
    return;
  }
  SumGroup group{.segments = {index}, .units = segment.key.units};
  for (const OperandReader& v : segment.values) {
    group.widths.push_back(v.width());
    group.units = std::gcd(group.units, v.units);
  }
  segment.group = static_cast<int>(recipe.groups.size());
  recipe.groups.push_back(std::move(group));
}

std::string joined(const std::set<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "+") + part;
  return text;
}

}  // namespace

Recipe make_recipe(const RecipeRequest& request) {
  Recipe recipe;
  Reasons reasons;
  std::set<std::string> levels, codecs;
  const Layer& shape = *request.shape;
  for (const Segment& segment : request.segments) {
    SegmentReader r{.segment = &segment};
    const auto use = [&](const Operand& operand, int dim, bool is_key) {
      OperandReader reader =
          read_operand(operand, segment.rows, shape, dim, request.isa, is_key ? "key" : "value");
      levels.emplace(name_of(settle(reader, request, is_key, reasons)));
      const CodecTable& table = reader.stream.table();
      codecs.insert(reader.stream.layout().codec->name);
      if (!reader.decodes())
        reasons.add(reader.stream.layout().codec->name + (is_key ? " keys by " : " values by ") +
                    (is_key ? table.score_how : table.value_how));
      return reader;
    };
    r.key = use(segment.layout->key, shape.head_dim, true);
    for (const Operand& value : segment.layout->values) {
      r.values.push_back(use(value, shape.value_dim, false));
      r.scales_values |= r.values.back().scale_column >= 0;
    }
    KVLAB_REQUIRE(!r.values.empty(), "E_SHAPE", "cpu engine: a layout without value operands");
    recipe.segments.push_back(std::move(r));
  }
  for (size_t i = 0; i < recipe.segments.size(); ++i) put_in_group(recipe, static_cast<int>(i));
  for (SumGroup& group : recipe.groups)
    for (const OperandReader& v :
         recipe.segments[static_cast<size_t>(group.segments.front())].values)
      group.maps.push_back(&v);
  recipe.level = joined(levels);
  recipe.kernel = joined(codecs) + "/" + std::string(name_of(request.isa));
  recipe.reason = reasons.text();
  return recipe;
}

}  // namespace kvlab
