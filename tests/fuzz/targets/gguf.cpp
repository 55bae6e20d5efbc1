// A GGUF header, its tensors' bytes being a hole behind the input (behind one of an odd length none: its file ends with it); and what is estimated
// from it.
#include "node/weights/gguf.h"
#include "fuzz/check.h"
#include "fuzz/memory_file.h"
#include "node/engine/llama_args.h"
#include "node/engine/llama_memory.h"

namespace {

using namespace thaw::node;

void check_header(const GgufHeader& header) {
  std::uint64_t end = header.data_offset;
  for (const GgufTensor& tensor : header.tensors) {
    FUZZ_CHECK(tensor.offset >= end);
    FUZZ_CHECK(tensor.bytes <= header.file_bytes && tensor.offset <= header.file_bytes - tensor.bytes);
    end = tensor.offset + tensor.bytes;
  }
}

void check_estimate(const GgufModel& model) {
  thaw::spec::ModelSpec spec;
  spec.name = thaw::base::ModelName("m");
  spec.source.path = model.head().path;
  const auto settings = read_llama_args(spec, model.head());
  if (!settings.ok()) return;
  for (const auto device : {thaw::spec::DeviceKind::cpu, thaw::spec::DeviceKind::cuda}) {
    FUZZ_CHECK(estimate_llama_memory(model, *settings, device).total() >= model.tensor_bytes());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kHoleBytes = 16U << 20;
  static const thaw::fuzz::MemoryFile file;
  file.assign(thaw::fuzz::text_of(data, size), size % 2 == 0 ? kHoleBytes : 0);
  const auto model = open_gguf_model(file.path());
  if (!model.ok()) return 0;
  check_header(model->head());
  check_estimate(*model);
  return 0;
}
