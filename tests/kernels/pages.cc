#include "tests/kernels/pages.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "kernels/codecs.h"
#include "tests/kernels/oracle.h"

namespace kvlab::test {

const Registry& codecs() {
  static const Registry registry = [] {
    Registry r;
    register_codecs(r);
    return r;
  }();
  return registry;
}

StreamLayout stream(const std::string& name, int units, int width, const std::string& codec,
                    const std::string& params, bool rotate_hadamard) {
  StreamLayout s{.name = name, .units = units, .width = width};
  s.codec = &codecs().codec(codec);
  s.params = codecs().codec_schema(codec).complete(parse_json(params, "test"), codec);
  s.rotate_hadamard = rotate_hadamard;
  s.format = s.codec->layout(width, s.params);
  return s;
}

oracle::Format format_of(const StreamLayout& s) {
  oracle::Format format{.codec = s.codec->name, .width = s.width};
  if (s.params.contains("group")) {
    format.group = s.params.at("group").get<int>();
    format.channel = s.params.at("axis") == "channel";
  }
  return format;
}

Pages::Pages(std::vector<StreamLayout> streams, int lists, const PagesOptions& options)
    : options_(options), random_(options.seed) {
  std::vector<Column> columns = options.columns;
  if (options.position_column) columns.push_back({std::string(kPositionColumn), Dtype::i32});
  if (options.until_column) columns.push_back({std::string(kUntilColumn), Dtype::i32});
  layout = make_page_layout(std::move(streams), columns, options.page_tokens);
  view.page = &layout;
  view.lists.resize(static_cast<size_t>(lists));
  ids_.resize(static_cast<size_t>(lists));
  page_bytes_ = layout.bytes + options.gap;
}

void Pages::resize(int list, int64_t first, int64_t last) {
  ListView& l = view.lists[static_cast<size_t>(list)];
  l.first = first;
  l.last = last;
  l.first_page = first / layout.page_tokens;
  const int64_t pages = last == first ? 0 : (last - 1) / layout.page_tokens - l.first_page + 1;
  const int64_t spread = options_.shuffle ? 2 : 1;
  // Exactly as much memory as the pages take, so that sanitizers see the first byte beyond.
  const int64_t bytes = std::max<int64_t>(1, spread * pages * page_bytes_);
  memory_.push_back(std::make_unique<u8[]>(static_cast<size_t>(bytes)));
  std::memset(memory_.back().get(), 0xff, static_cast<size_t>(bytes));  // NaN in every format
  std::vector<int32_t> ids(static_cast<size_t>(spread * pages));
  std::iota(ids.begin(), ids.end(), 0);
  if (options_.shuffle) std::shuffle(ids.begin(), ids.end(), random_);
  ids.resize(static_cast<size_t>(pages));
  ids_[static_cast<size_t>(list)] = std::move(ids);
  l.base = memory_.back().get();
  l.stride = page_bytes_;
  l.ids = ids_[static_cast<size_t>(list)].data();
}

u8* Pages::page_of(int list, int64_t slot) const {
  return view.lists[static_cast<size_t>(list)].page(slot / layout.page_tokens);
}

void Pages::write(Engine& engine, int stream, int list, int64_t slot,
                  const std::vector<std::vector<float>>& rows) {
  if (rows.empty()) return;
  const StreamLayout& s = layout.streams[static_cast<size_t>(stream)];
  const int64_t lists = view.lists_per_sequence, width = s.width, units = s.units * lists;
  std::vector<float> all(rows.size() * static_cast<size_t>(units * width), 0.0f);
  std::vector<Placement> where;
  const int64_t first_unit = list % lists * s.units;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::copy(rows[r].begin(), rows[r].end(),
              all.begin() + (static_cast<int64_t>(r) * units + first_unit) * width);
    where.push_back({static_cast<int32_t>(r), list, slot + static_cast<int64_t>(r)});
  }
  engine.encode({.to = &view,
                 .stream = stream,
                 .rows = dense_view(all.data(), Dtype::f32,
                                    {static_cast<int64_t>(rows.size()), units, width}),
                 .where = where});
}

void Pages::set_int(int list, int column, int64_t slot, int32_t value) {
  std::memcpy(column_at(layout, view.lists[static_cast<size_t>(list)], column, slot), &value, 4);
}
void Pages::set_float(int list, const std::string& column, int64_t slot, float value) {
  std::memcpy(column_at(layout, view.lists[static_cast<size_t>(list)], layout.column(column), slot),
              &value, 4);
}

void Pages::punch(int list, int64_t page) {
  ids_[static_cast<size_t>(list)]
      [static_cast<size_t>(page - view.lists[static_cast<size_t>(list)].first_page)] = -1;
}

std::vector<double> Pages::stored(int stream, int list, int unit, int64_t slot) const {
  const StreamLayout& s = layout.streams[static_cast<size_t>(stream)];
  oracle::StoredRows rows = oracle::sizes_of(format_of(s));
  for (size_t i = 0; i < rows.plane.size(); ++i)
    rows.plane[i] = page_of(list, slot) + s.planes[i].offset + unit * s.planes[i].unit_stride;
  std::vector<double> x = oracle::decode(format_of(s), rows, slot % layout.page_tokens);
  return s.rotate_hadamard ? oracle::hadamard_back(x) : x;
}

int64_t Pages::position(int list, int64_t slot) const {
  if (layout.position < 0) return slot + view.position_offset;
  int32_t value;
  std::memcpy(&value,
              column_at(layout, view.lists[static_cast<size_t>(list)], layout.position, slot), 4);
  return value;
}
int64_t Pages::until(int list, int64_t slot) const {
  if (layout.until < 0) return kForever;
  int32_t value;
  std::memcpy(&value, column_at(layout, view.lists[static_cast<size_t>(list)], layout.until, slot),
              4);
  return value >= view.lists[static_cast<size_t>(list)].grace ? kForever : value;
}

std::vector<float> normal(std::mt19937_64& random, int64_t count, Dtype dtype) {
  std::normal_distribution<float> distribution;
  std::vector<float> x(static_cast<size_t>(count));
  // Not in place: g++ 12 loses `v = bit_cast(bit_cast(v) & mask)` under a sanitizer.
  const uint32_t kept = dtype == Dtype::bf16 ? 0xffff0000u : ~0u;
  for (float& v : x) v = std::bit_cast<float>(std::bit_cast<uint32_t>(distribution(random)) & kept);
  return x;
}

}  // namespace kvlab::test
