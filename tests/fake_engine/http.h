#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace thaw::fake_engine {

/// One HTTP/1.x request; the views point into the buffer that was parsed.
struct Request {
  std::string_view method;
  std::string_view target;           ///< without its query
  std::string_view query;
  std::string_view body;
  std::string_view content_type;
  bool keep_alive = true;
  bool chunked_allowed = true;       ///< HTTP/1.1: the answer may be chunked
  bool expects_continue = false;     ///< "Expect: 100-continue", and the body has not come yet
  std::size_t total_bytes = 0;       ///< of head and body
};

enum class Parse { incomplete, complete, bad };

constexpr std::size_t kMaxHeadBytes = 64U << 10;
constexpr std::size_t kMaxBodyBytes = 64U << 20;

/// Reads the request at the start of `input`. Bodies need a Content-Length: a chunked one is bad.
Parse parse_request(std::string_view input, Request& request);

/// A whole answer with a Content-Length.
std::string make_response(int status, std::string_view content_type, std::string_view body, bool keep_alive);

/// A whole answer in chunks of a few bytes, or ended by closing the connection.
std::string make_unsized_response(int status, std::string_view content_type, std::string_view body, bool chunked, bool keep_alive);

/// The head of a streamed answer: chunked, or ended by closing the connection where the client speaks HTTP/1.0.
std::string make_stream_head(const Request& request);

/// Appends one chunk (or the bare data, when not chunked).
void append_chunk(std::string& out, std::string_view data, bool chunked);

}  // namespace thaw::fake_engine
