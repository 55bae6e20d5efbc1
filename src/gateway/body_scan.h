#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace thaw::gateway {

/// What routing needs of a request body; the engine reads the rest itself.
struct BodyFacts {
  std::string model;
  bool stream = false;
};

/// Reads an OpenAI request body in one pass without building a tree, and checks that it is valid JSON (an engine may answer 500 to what is
/// the client's fault). Depth is bounded by 64. The error's message is for the client and says where: "invalid JSON at byte 17: …".
base::Result<BodyFacts> scan_body(std::string_view body);

}  // namespace thaw::gateway
