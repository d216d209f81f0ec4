// Any bytes: a header whose tensors tile the data, or one sentence.

#include "core/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvlab;
  SafetensorsHeader header;
  const bool valid = fuzz::accepts({"E_FORMAT"}, [&] {
    header = parse_safetensors_header({data, size}, static_cast<int64_t>(size), "input");
  });
  if (!valid) return 0;
  int64_t end = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    int64_t bytes = size_of(entry.dtype);
    for (const int64_t dim : entry.shape) bytes *= dim;
    fuzz::require(entry.bytes.first == end, "tensors follow each other");
    fuzz::require(entry.bytes.size() == bytes, "sizes agree with shapes");
    end = entry.bytes.last;
  }
  fuzz::require(header.data_offset + end == static_cast<int64_t>(size), "and fill the file");
  return 0;
}
