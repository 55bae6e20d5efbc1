#pragma once

#include <string_view>

#include "base/result.h"
#include "gateway/body_scan.h"

namespace thaw::gateway {

/// What routing needs of a body of multipart/form-data (RFC 7578; OpenAI's audio routes send files so): the fields "model" and "stream". Parts are
/// passed over by their boundaries, nothing is copied but those two values; at most 64 parts with 4 KiB of headers each. `content_type`: the
/// request's, with the boundary. The error's message is for the client.
base::Result<BodyFacts> scan_form(std::string_view body, std::string_view content_type);

/// Whether a body of this type is one.
bool is_form(std::string_view content_type);

}  // namespace thaw::gateway
