#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thaw::gateway {

/// What routing needs of a request body; the engine reads the rest itself.
struct BodyFacts {
  std::string model;
  bool stream = false;
  /// Equal for requests that begin alike: of "prompt_cache_key", else of "user", else of the beginning of the prompt. 0: none of them is there.
  std::uint64_t affinity = 0;
};

/// The affinity of a session that the client names itself.
std::uint64_t affinity_of(std::string_view session);

/// The beginning of a prompt is its first kAffinityBytes of text ("prompt", "input" or "messages"), of messages at most up to the first of the user's:
/// so every turn of a conversation has the same.
constexpr std::size_t kAffinityBytes = 1024;

/// Reads an OpenAI request body in one pass without building a tree, and checks that it is valid JSON (an engine may answer 500 to what is
/// the client's fault). Depth is bounded by 64. The error's message is for the client and says where: "invalid JSON at byte 17: …".
base::Result<BodyFacts> scan_body(std::string_view body);

}  // namespace thaw::gateway
