#include <cstdint>
#include <string_view>

#include "fuzz/check.h"
#include "node/oci/image_json.h"
#include "spec/image_ref.h"

/// Manifests, indexes and configs of container images. What is accepted has digests, and is within bounds.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace thaw;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto read = node::read_manifest(text, "amd64"); read.ok()) {
    if (read->is_index) FUZZ_CHECK(spec::is_digest(read->own_platform));
    if (!read->is_index)
      FUZZ_CHECK(!read->manifest.layers.empty() && read->manifest.layers.size() <= node::kMaxImageLayers &&
                 spec::is_digest(read->manifest.config.digest));
    for (const auto& layer : read->manifest.layers) FUZZ_CHECK(spec::is_digest(layer.digest));
  }
  if (const auto config = node::read_image_config(text); config.ok()) {
    FUZZ_CHECK(config->working_dir.starts_with('/') && !config->diff_ids.empty());
    for (const auto& id : config->diff_ids) FUZZ_CHECK(spec::is_digest(id));
    for (const auto& [name, value] : config->env)
      FUZZ_CHECK(!name.empty() && name.find('=') == std::string::npos && value.find('\0') == std::string::npos);
  }
  return 0;
}
