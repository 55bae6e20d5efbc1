#include <algorithm>
#include <cstdint>
#include <string_view>

#include "fuzz/check.h"
#include "node/oci/tar_reader.h"

/// The headers of a layer of a container image. In one piece or in pieces, the answer is the same; what is accepted leads nowhere else and is within
/// bounds.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace thaw::node;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  constexpr LayerBounds kBounds{.entries = 1000, .file_bytes = 1 << 20};
  const auto read = [&](std::size_t piece) -> thaw::base::Result<LayerContents> {
    TarReader reader(kBounds);
    for (std::size_t at = 0; at < bytes.size(); at += piece) THAW_RETURN_IF_ERROR(reader.add(bytes.substr(at, piece)));
    return reader.finish();
  };
  const auto whole = read(std::max<std::size_t>(size, 1));
  const auto pieces = read(777);
  FUZZ_CHECK(whole.ok() == pieces.ok());
  if (!whole.ok()) {
    FUZZ_CHECK(!whole.error().message.empty() && whole.error().message == pieces.error().message);
    return 0;
  }
  FUZZ_CHECK(whole->entries == pieces->entries && whole->file_bytes == pieces->file_bytes && whole->whiteouts == pieces->whiteouts);
  FUZZ_CHECK(whole->entries <= kBounds.entries && whole->file_bytes <= kBounds.file_bytes);
  for (const auto* paths : {&whole->whiteouts, &whole->opaque_dirs})
    for (const std::string& path : *paths)
      FUZZ_CHECK(!path.starts_with('/') && ("/" + path + "/").find("/../") == std::string::npos &&
                 ("/" + path + "/").find("/./") == std::string::npos && path.find('\0') == std::string::npos);
  return 0;
}
