// A safetensors file: 8 bytes say how many bytes of data follow the header (at most 2^40), the rest is the header's JSON. Without a number that fits,
// the input is a whole file.
#include <cstring>

#include "fuzz/check.h"
#include "fuzz/memory_file.h"
#include "node/weights/safetensors.h"

namespace {

using namespace thaw::node;

void check_header(const SafetensorsHeader& header) {
  std::uint64_t end = header.data_offset;
  for (const SafetensorsTensor& tensor : header.tensors) {
    FUZZ_CHECK(tensor.offset == end);
    FUZZ_CHECK(safetensors_dtype_bits(tensor.dtype).has_value());
    end += tensor.bytes;
  }
  FUZZ_CHECK(end == header.file_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kMaxDataBytes = 1ULL << 40;
  static const thaw::fuzz::MemoryFile file;
  std::uint64_t data_bytes = ~0ULL;
  if (size >= sizeof data_bytes) std::memcpy(&data_bytes, data, sizeof data_bytes);
  if (data_bytes <= kMaxDataBytes) {
    const std::uint64_t json_bytes = size - sizeof data_bytes;
    std::string bytes(sizeof json_bytes, '\0');
    std::memcpy(bytes.data(), &json_bytes, sizeof json_bytes);
    file.assign(bytes.append(thaw::fuzz::text_of(data, size).substr(sizeof data_bytes)), data_bytes);
  } else {
    file.assign(thaw::fuzz::text_of(data, size));
  }
  if (const auto header = read_safetensors_header(file.path()); header.ok()) check_header(*header);
  return 0;
}
