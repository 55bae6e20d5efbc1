// Headers of a shared library that a CDI file mounts, the rest of it being a hole: the name that it gives itself is one
// of a file in a directory.
#include "node/cdi/elf_soname.h"
#include "fuzz/check.h"
#include "fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kHoleBytes = 1U << 20;
  static const thaw::fuzz::MemoryFile file;
  file.assign(thaw::fuzz::text_of(data, size), size % 2 == 0 ? kHoleBytes : 0);
  const auto name = thaw::node::soname_of(file.path());
  if (!name) return 0;
  FUZZ_CHECK(!name->empty() && name->size() <= 255 && *name != "." && *name != "..");
  FUZZ_CHECK(name->find('/') == std::string::npos && name->find('\0') == std::string::npos);
  return 0;
}
