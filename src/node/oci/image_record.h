#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "node/oci/image_fetch.h"

namespace thaw::node {

/// What is kept of an image that is here: a JSON file. read_image_record fails with invalid for anything that to_json did not write.
std::string to_json(const StoredImage& image);
base::Result<StoredImage> read_image_record(std::string_view text);

/// Replaces a file of ours, whole or not at all, also in a power cut.
base::Status write_durably_again(const std::string& path, std::string_view text);

}  // namespace thaw::node
