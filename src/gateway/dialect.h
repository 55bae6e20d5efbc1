#pragma once

#include <cstdint>

namespace thaw::gateway {

/// Whose API a route speaks: what its errors look like, and what an event stream's do.
enum class Dialect : std::uint8_t {
  openai,     ///< {"error":{"message","type","param","code"}}
  anthropic,  ///< {"type":"error","error":{"type","message"},"request_id"}; in a stream as "event: error"
};

/// What the body of a request to a model is.
enum class BodyForm : std::uint8_t {
  json,
  generation,  ///< JSON, and has text generated: the model's parameters are set in it
  form,        ///< multipart/form-data
};

}  // namespace thaw::gateway
