#include "core/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace kvlab {
namespace {

constexpr int64_t kMaxHeaderBytes = 100'000'000;
constexpr int64_t kLengthBytes = 8;
constexpr int64_t kAlignment = 64;

struct NamedDtype {
  std::string_view name;
  Dtype dtype;
};
constexpr std::array<NamedDtype, 10> kSafetensorsDtypes{{{"F64", Dtype::f64},
                                                         {"F32", Dtype::f32},
                                                         {"F16", Dtype::f16},
                                                         {"BF16", Dtype::bf16},
                                                         {"I64", Dtype::i64},
                                                         {"I32", Dtype::i32},
                                                         {"I16", Dtype::i16},
                                                         {"I8", Dtype::i8},
                                                         {"U8", Dtype::u8},
                                                         {"BOOL", Dtype::boolean}}};

std::string_view format_name(Dtype dtype) {
  return std::ranges::find(kSafetensorsDtypes, dtype, &NamedDtype::dtype)->name;
}

/// What is wrong with one tensor of a header, as an error.
struct TensorComplaint {
  std::string_view where, tensor;
  template <class... Parts>
  [[noreturn]] void operator()(const Parts&... parts) const {
    fail("E_FORMAT", where, ": tensor `", printable(tensor), "`: ", parts...);
  }
};

Dtype parse_dtype(const Json& value, const TensorComplaint& complain) {
  if (!value.is_string()) complain("`dtype` must be a string");
  const auto& name = value.get_ref<const std::string&>();
  const auto* found = std::ranges::find(kSafetensorsDtypes, name, &NamedDtype::name);
  if (found != kSafetensorsDtypes.end()) return found->dtype;
  std::string known;
  for (const NamedDtype& d : kSafetensorsDtypes)
    known += (known.empty() ? "" : ", ") + std::string(d.name);
  complain("dtype `", printable(name), "` is not one kvlab reads; known: ", known);
}

/// Non-negative integers below 2^63.
std::vector<int64_t> parse_sizes(const Json& value, std::string_view key,
                                 const TensorComplaint& complain) {
  if (!value.is_array()) complain("`", key, "` must be an array");
  std::vector<int64_t> sizes;
  for (const Json& size : value) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > INT64_MAX)
      complain("`", key, "` must hold integers from 0 to 2^63 - 1");
    sizes.push_back(size.get<int64_t>());
  }
  return sizes;
}

int64_t bytes_of(const SafetensorsEntry& entry, const TensorComplaint& complain) {
  int64_t bytes = size_of(entry.dtype);
  for (const int64_t size : entry.shape)
    if (__builtin_mul_overflow(bytes, size, &bytes)) complain("its size overflows 2^63 bytes");
  return bytes;
}

SafetensorsEntry parse_entry(const std::string& name, const Json& value, std::string_view where) {
  const TensorComplaint complain{where, name};
  if (!value.is_object()) complain("must be an object");
  for (const auto& [key, unused] : value.items())
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      complain("unknown key `", printable(key), "`");
  for (const char* key : {"dtype", "shape", "data_offsets"})
    if (!value.contains(key)) complain("`", key, "` is missing");

  SafetensorsEntry entry{.name = name};
  entry.dtype = parse_dtype(value["dtype"], complain);
  entry.shape = parse_sizes(value["shape"], "shape", complain);
  const std::vector<int64_t> offsets = parse_sizes(value["data_offsets"], "data_offsets", complain);
  if (offsets.size() != 2 || offsets[0] > offsets[1])
    complain("`data_offsets` must be two rising offsets");
  entry.bytes = {offsets[0], offsets[1]};
  if (const int64_t expected = bytes_of(entry, complain); expected != entry.bytes.size())
    complain("shape and dtype take ", expected, " bytes, data_offsets give ", entry.bytes.size());
  return entry;
}

std::map<std::string, std::string> parse_metadata(const Json& value, std::string_view where) {
  std::map<std::string, std::string> metadata;
  KVLAB_REQUIRE(value.is_object(), "E_FORMAT", where, ": `__metadata__` must be an object");
  for (const auto& [key, text] : value.items()) {
    KVLAB_REQUIRE(text.is_string(), "E_FORMAT", where, ": metadata `", printable(key),
                  "` must be a string");
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

/// Sorted entries must cover [0, data_bytes) once.
void check_tiling(std::span<const SafetensorsEntry> entries, int64_t data_bytes,
                  std::string_view where) {
  int64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    const TensorComplaint complain{where, entry.name};
    if (entry.bytes.first < end) complain("overlaps the tensor before it");
    if (entry.bytes.first > end)
      complain("leaves a hole of ", entry.bytes.first - end, " bytes before it");
    if (entry.bytes.last > data_bytes)
      complain("ends at byte ", entry.bytes.last, " of ", data_bytes,
               " bytes of data; the file is cut off");
    end = entry.bytes.last;
  }
  KVLAB_REQUIRE(end == data_bytes, "E_FORMAT", where, ": ", data_bytes - end,
                " bytes after the last tensor belong to none");
}

int64_t header_length(std::span<const u8> head, int64_t file_bytes, std::string_view where) {
  KVLAB_REQUIRE(file_bytes >= kLengthBytes && head.size() >= kLengthBytes, "E_FORMAT", where,
                ": is ", file_bytes, " bytes long, too short for a safetensors file");
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | head[i];
  KVLAB_REQUIRE(length <= kMaxHeaderBytes, "E_FORMAT", where, ": its header claims ", length,
                " bytes, allowed are ", kMaxHeaderBytes, "; is it a safetensors file?");
  const auto checked = static_cast<int64_t>(length);
  KVLAB_REQUIRE(checked <= file_bytes - kLengthBytes, "E_FORMAT", where, ": its header claims ",
                length, " bytes, the file has ", file_bytes - kLengthBytes,
                " after the length; the file is cut off");
  KVLAB_CHECK(std::cmp_greater_equal(head.size(), kLengthBytes + checked));
  return checked;
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const u8> head, int64_t file_bytes,
                                           std::string_view where) {
  const int64_t length = header_length(head, file_bytes, where);
  const std::string_view text(reinterpret_cast<const char*>(head.data()) + kLengthBytes,
                              static_cast<size_t>(length));
  KVLAB_REQUIRE(text.starts_with('{'), "E_FORMAT", where, ": its header must start with `{`");
  const Json json = parse_json(text, std::string(where) + ": header");

  SafetensorsHeader header{.data_offset = kLengthBytes + length};
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__")
      header.metadata = parse_metadata(value, where);
    else
      header.entries.push_back(parse_entry(name, value, where));
  }
  std::ranges::stable_sort(header.entries, {}, [](const SafetensorsEntry& entry) {
    return std::pair(entry.bytes.first, entry.bytes.last);
  });
  check_tiling(header.entries, file_bytes - header.data_offset, where);
  return header;
}

struct SafetensorsFile::Memory {
  explicit Memory(const std::filesystem::path& path) : map(path) {}
  MappedFile map;
  std::vector<const u8*> starts{};  // of each entry
  std::vector<Tensor> copies{};     // of those that are not aligned in the file
};

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : where_(printable(path.native(), 400)) {
  auto memory = std::make_shared<Memory>(path);
  const std::span<const u8> bytes = memory->map.bytes();
  header_ = parse_safetensors_header(bytes, static_cast<int64_t>(bytes.size()), where_);
  for (const SafetensorsEntry& entry : header_.entries) {
    by_name_.emplace(entry.name, memory->starts.size());
    const u8* start = bytes.data() + header_.data_offset + entry.bytes.first;
    if ((header_.data_offset + entry.bytes.first) % size_of(entry.dtype) != 0) {
      memory->copies.push_back(make_tensor(entry.name, Dtype::u8, {entry.bytes.size()}));
      void* copy = memory->copies.back().view.data;
      std::memcpy(copy, start, static_cast<size_t>(entry.bytes.size()));
      start = static_cast<const u8*>(copy);
    }
    memory->starts.push_back(start);
  }
  memory_ = std::move(memory);
}

bool SafetensorsFile::has(std::string_view name) const { return by_name_.contains(name); }

TensorView SafetensorsFile::tensor(std::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) {
    std::vector<std::string> names;
    for (const auto& [known, unused] : by_name_) names.push_back(known);
    fail("E_WEIGHT", where_, ": has no tensor `", printable(name), "`", suggestion(name, names));
  }
  const SafetensorsEntry& entry = header_.entries[found->second];
  KVLAB_REQUIRE(entry.shape.size() <= TensorView::kMaxDims, "E_WEIGHT", where_, ": tensor `",
                printable(name), "` has ", entry.shape.size(), " dimensions; kvlab reads up to ",
                TensorView::kMaxDims);
  return dense_view(const_cast<u8*>(memory_->starts[found->second]), entry.dtype, entry.shape);
}

void write_safetensors(const std::filesystem::path& path, std::span<const Tensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const Tensor*> order;
  for (const Tensor& tensor : tensors) order.push_back(&tensor);
  std::ranges::stable_sort(order, std::greater<>(),
                           [](const Tensor* t) { return size_of(t->view.dtype); });

  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const Tensor* tensor : order) {
    const TensorView& view = tensor->view;
    KVLAB_REQUIRE(tensor->name != "__metadata__" && !header.contains(tensor->name), "E_WEIGHT",
                  printable(path.native(), 400), ": the name `", printable(tensor->name),
                  "` is taken; tensors of a file need distinct names");
    KVLAB_REQUIRE(view.is_contiguous() && view.device.kind == Device::Kind::cpu, "E_WEIGHT",
                  printable(path.native(), 400), ": tensor `", printable(tensor->name),
                  "` must be dense and on the CPU to be written");
    const int64_t end = offset + view.numel() * size_of(view.dtype);
    header[tensor->name] = {
        {"dtype", format_name(view.dtype)},
        {"shape", std::vector(view.sizes.begin(), view.sizes.begin() + view.dims)},
        {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = canonical(header);
  text.append(static_cast<size_t>(-(kLengthBytes + std::ssize(text)) & (kAlignment - 1)), ' ');
  KVLAB_REQUIRE(std::ssize(text) <= kMaxHeaderBytes, "E_WEIGHT", printable(path.native(), 400),
                ": the header would take ", text.size(), " bytes, allowed are ", kMaxHeaderBytes);

  AtomicFile file(path);
  std::array<u8, kLengthBytes> length{};
  for (size_t i = 0; i < length.size(); ++i) length[i] = static_cast<u8>(text.size() >> (8 * i));
  file.write(length.data(), kLengthBytes);
  file.write(text);
  for (const Tensor* tensor : order)
    file.write(tensor->view.data, tensor->view.numel() * size_of(tensor->view.dtype));
  file.commit();
}

}  // namespace kvlab
