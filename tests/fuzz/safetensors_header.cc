// Any bytes: a header whose tensors tile the data, or one sentence.

#include "core/safetensors.h"
#include "tests/fuzz/fuzz.h"

void kvlab::fuzz::target(std::string_view text) {
  const std::span input(reinterpret_cast<const u8*>(text.data()), text.size());
  const auto size = static_cast<int64_t>(text.size());
  SafetensorsHeader header;
  const bool valid =
      fuzz::accepts({"E_FORMAT"}, [&] { header = parse_safetensors_header(input, size, "input"); });
  if (!valid) return;
  int64_t end = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    int64_t bytes = size_of(entry.dtype);
    for (const int64_t dim : entry.shape) bytes *= dim;
    fuzz::require(entry.bytes.first == end, "tensors follow each other");
    fuzz::require(entry.bytes.size() == bytes, "sizes agree with shapes");
    end = entry.bytes.last;
  }
  fuzz::require(header.data_offset + end == size, "and fill the file");
}
