#pragma once
// What needles are hidden in, in units that a length is filled with.

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/types.h"
#include "eval/random.h"
#include "eval/synthetic/hidden.h"
#include "eval/task.h"

namespace kvlab {

/// noise: five sentences of filler, a unit is one repetition.  text: a file, white space collapsed
/// (ASCII's), repeated when too short, a unit is a word; it is cut into sentences after . ! ? and a
/// space.  prose: sentences of a small grammar (prose.h).  needles: sentences like those asked for,
/// with other keys and values.
enum class HaystackKind : u8 { noise, text, prose, needles };
std::string_view name_of(HaystackKind kind);

/// Where needles go.  In noise and needles: slots before a unit, drawn without replacement.  In
/// text and prose: depths of the 40 round(i * 100 / 39) percent, drawn without replacement; also
/// where a task fixes the depth.  Rising.
struct Places {
  bool in_percent = false;
  std::vector<int32_t> at{};
  std::vector<size_t> slots(size_t pieces) const;  // pieces * percent / 100, rounded down
};
inline constexpr int32_t kDepths = 40;
int32_t depth_percent(int32_t step);  // round(step * 100 / 39): 0 3 5 8 10 ... 100

class Haystack {
 public:
  /// Of a task's parameters `haystack` and `text`.  E_CONFIG: the one asks for the other; E_FILE,
  /// E_FORMAT, E_TEXT_TOO_SHORT: a file without a word.
  explicit Haystack(const TaskSetup& setup);

  HaystackKind kind() const { return kind_; }
  const Json& files() const { return files_; }  // {"path", "sha256", "bytes"} of what was read

  /// Units that so many needles need at least: slots are not shared.
  int64_t least_units(int64_t needles) const;
  Places draw_places(SplitMix64& random, int64_t units, int64_t needles) const;
  /// The pieces between which needles may stand; `distractor` makes a sentence of its own.
  std::vector<std::string> pieces(SplitMix64& random, int64_t units,
                                  const std::function<std::string()>& distractor = {}) const;

 private:
  HaystackKind kind_ = HaystackKind::noise;
  std::shared_ptr<const std::vector<std::string>> words_{};
  Json files_ = Json::array();
};

/// The filler of `noise`, once.
const std::string& noise_unit();
/// Words between runs of ASCII white space.
std::vector<std::string> split_words(std::string_view text);
/// Cut after each . ! or ? that a space follows; the space belongs to neither side.
std::vector<std::string> split_sentences(std::string_view text);

/// Schema of `haystack` and `text` for a task whose table names `standard`; "text" stands for the
/// file where one is given and for prose where none is.
Json haystack_schema(HaystackKind standard, const Json& given, bool with_needles);

}  // namespace kvlab
