#include "http.h"

#include <strings.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace thaw::fake_engine {
namespace {

bool same(std::string_view a, std::string_view b) { return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0; }

std::string_view reason(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 429: return "Too Many Requests";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    default: return "Status";
  }
}

struct Framing {
  std::size_t content_length = 0;
  bool bad = false;
};

void read_header(std::string_view line, Request& request, Framing& framing) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return;
  const std::string_view name = line.substr(0, colon);
  std::string_view value = line.substr(colon + 1);
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (same(name, "content-length")) {
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), framing.content_length);
    if (error != std::errc() || framing.content_length > kMaxBodyBytes) framing.bad = true;
  } else if (same(name, "transfer-encoding")) {
    framing.bad = true;
  } else if (same(name, "connection")) {
    if (same(value, "close")) request.keep_alive = false;
    if (same(value, "keep-alive")) request.keep_alive = true;
  } else if (same(name, "content-type")) {
    request.content_type = value;
  } else if (same(name, "expect")) {
    request.expects_continue = true;
  }
}

}  // namespace

Parse parse_request(std::string_view input, Request& request) {
  const std::size_t head_end = input.find("\r\n\r\n");
  if (head_end == std::string_view::npos) return input.size() > kMaxHeadBytes ? Parse::bad : Parse::incomplete;
  request = Request{};
  std::string_view head = input.substr(0, head_end);
  const std::size_t line_end = head.find("\r\n");
  const std::string_view line = head.substr(0, line_end);
  const std::size_t first = line.find(' ');
  const std::size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos) return Parse::bad;
  request.method = line.substr(0, first);
  request.target = line.substr(first + 1, second - first - 1);
  const std::size_t question = std::min(request.target.find('?'), request.target.size());
  request.query = request.target.substr(std::min(question + 1, request.target.size()));
  request.target = request.target.substr(0, question);
  request.chunked_allowed = line.substr(second + 1) == "HTTP/1.1";
  request.keep_alive = request.chunked_allowed;

  Framing framing;
  while (!head.empty()) {
    const std::size_t end = head.find("\r\n");
    read_header(head.substr(0, end), request, framing);
    head = end == std::string_view::npos ? std::string_view() : head.substr(end + 2);
  }
  if (framing.bad) return Parse::bad;
  const std::size_t body_start = head_end + 4;
  request.total_bytes = body_start + framing.content_length;
  if (input.size() < request.total_bytes) return Parse::incomplete;
  request.expects_continue = false;
  request.body = input.substr(body_start, framing.content_length);
  return Parse::complete;
}

std::string make_response(int status, std::string_view content_type, std::string_view body, bool keep_alive) {
  std::string out;
  out.reserve(body.size() + 160);
  out.append("HTTP/1.1 ").append(std::to_string(status)).append(" ").append(reason(status));
  out.append("\r\nServer: fake-engine\r\nContent-Type: ").append(content_type);
  out.append("\r\nContent-Length: ").append(std::to_string(body.size()));
  out.append(keep_alive ? "\r\nConnection: keep-alive\r\n\r\n" : "\r\nConnection: close\r\n\r\n");
  return out.append(body);
}

std::string make_unsized_response(int status, std::string_view content_type, std::string_view body, bool chunked, bool keep_alive) {
  std::string out = "HTTP/1.1 " + std::to_string(status) + " Error\r\nContent-Type: ";
  out.append(content_type).append(chunked ? "\r\nTransfer-Encoding: chunked" : "");
  out.append(keep_alive && chunked ? "\r\nConnection: keep-alive\r\n\r\n" : "\r\nConnection: close\r\n\r\n");
  constexpr std::size_t kPiece = 1000;
  for (std::size_t at = 0; at < body.size(); at += kPiece) append_chunk(out, body.substr(at, kPiece), chunked);
  return out.append(chunked ? "0\r\n\r\n" : "");
}

std::string make_stream_head(const Request& request) {
  std::string out = "HTTP/1.1 200 OK\r\nServer: fake-engine\r\nContent-Type: text/event-stream\r\n";
  out.append(request.chunked_allowed ? "Transfer-Encoding: chunked\r\n" : "");
  return out.append(request.keep_alive && request.chunked_allowed ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n");
}

void append_chunk(std::string& out, std::string_view data, bool chunked) {
  if (!chunked) {
    out.append(data);
    return;
  }
  std::array<char, 20> size{};
  const auto [end, error] = std::to_chars(size.data(), size.data() + size.size(), data.size(), 16);
  out.append(size.data(), end).append("\r\n").append(data).append("\r\n");
}

}  // namespace thaw::fake_engine
