#include "core/types.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/json.h"

namespace kvlab {
namespace {

struct DtypeInfo {
  Dtype dtype;
  std::string_view name;
  int64_t bytes;
};
constexpr std::array<DtypeInfo, 10> kDtypes{{{Dtype::f64, "float64", 8},
                                             {Dtype::f32, "float32", 4},
                                             {Dtype::f16, "float16", 2},
                                             {Dtype::bf16, "bfloat16", 2},
                                             {Dtype::i64, "int64", 8},
                                             {Dtype::i32, "int32", 4},
                                             {Dtype::i16, "int16", 2},
                                             {Dtype::i8, "int8", 1},
                                             {Dtype::u8, "uint8", 1},
                                             {Dtype::boolean, "bool", 1}}};

const DtypeInfo& info(Dtype dtype) {
  const auto* found = std::ranges::find(kDtypes, dtype, &DtypeInfo::dtype);
  KVLAB_CHECK(found != kDtypes.end());
  return *found;
}

}  // namespace

int64_t size_of(Dtype dtype) { return info(dtype).bytes; }
std::string_view name_of(Dtype dtype) { return info(dtype).name; }

Dtype dtype_named(std::string_view name) {
  for (const DtypeInfo& d : kDtypes)
    if (d.name == name) return d.dtype;
  std::vector<std::string> known;
  for (const DtypeInfo& d : kDtypes) known.emplace_back(d.name);
  fail("E_UNKNOWN", "dtype `", name, "`", suggestion(name, known));
}

int64_t TensorView::numel() const {
  int64_t count = 1;
  for (int i = 0; i < dims; ++i) count *= size(i);
  return count;
}

bool TensorView::is_contiguous() const {
  int64_t expected = 1;
  for (int i = dims - 1; i >= 0; --i) {
    if (size(i) != 1 && stride(i) != expected) return false;
    expected *= size(i);
  }
  return true;
}

TensorView TensorView::rows(Range range) const {
  KVLAB_DCHECK(dims >= 1 && 0 <= range.first && range.first <= range.last && range.last <= size(0));
  TensorView part = *this;
  part.data = at(range.first);
  part.sizes[0] = range.size();
  return part;
}

TensorView dense_view(void* data, Dtype dtype, std::span<const int64_t> sizes, Device device) {
  KVLAB_CHECK(sizes.size() <= TensorView::kMaxDims);
  TensorView view{
      .data = data, .dtype = dtype, .device = device, .dims = static_cast<int>(sizes.size())};
  std::ranges::copy(sizes, view.sizes.begin());
  int64_t stride = 1;
  for (int i = view.dims - 1; i >= 0; --i) {
    view.strides[static_cast<size_t>(i)] = stride;
    stride *= view.size(i);
  }
  return view;
}

TensorView dense_view(void* data, Dtype dtype, std::initializer_list<int64_t> sizes,
                      Device device) {
  return dense_view(data, dtype, std::span<const int64_t>(sizes.begin(), sizes.size()), device);
}

TensorView dense_view(const void* data, Dtype dtype, std::initializer_list<int64_t> sizes,
                      Device device) {
  return dense_view(const_cast<void*>(data), dtype, sizes, device);
}

}  // namespace kvlab
