#include "gateway/form_scan.h"

#include <algorithm>
#include <string>

#include "net/http.h"

namespace thaw::gateway {
namespace {

constexpr std::string_view kType = "multipart/form-data";
constexpr std::size_t kMaxBoundaryBytes = 70;  ///< RFC 2046
constexpr std::size_t kMaxParts = 64;
constexpr std::size_t kMaxPartHeadBytes = 4 * 1024;
constexpr std::size_t kMaxValueBytes = 256;  ///< longer than any model's name

base::Error wrong(std::string what) {
  return {base::ErrorKind::invalid, "malformed multipart/form-data: " + std::move(what)};
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// The value of a parameter behind the first ";" of a header's value: of `name` in `form-data; name="model"; filename="a;b"`. A quoted one as it
/// stands between its quotes. Empty: there is none.
std::string_view parameter(std::string_view header, std::string_view name) {
  std::size_t at = header.find(';');
  while (at < header.size()) {
    ++at;
    const std::size_t equals = header.find('=', at);
    if (equals == std::string_view::npos) return {};
    const std::string_view key = trimmed(header.substr(at, equals - at));
    std::size_t begin = equals + 1, end = 0;
    if (begin < header.size() && header[begin] == '"') {
      end = ++begin;
      while (end < header.size() && header[end] != '"') end += header[end] == '\\' ? 2U : 1U;
      if (end >= header.size()) return {};
      at = header.find(';', end);
    } else {
      end = std::min(header.find(';', begin), header.size());
      at = end;
    }
    if (net::equals_lower(key, name)) return trimmed(header.substr(begin, end - begin));
  }
  return {};
}

/// The value of a part's header; empty: there is none.
std::string_view header(std::string_view head, std::string_view name) {
  while (!head.empty()) {
    const std::size_t end = head.find("\r\n");
    const std::string_view line = head.substr(0, end);
    const std::size_t colon = line.find(':');
    if (colon != std::string_view::npos && net::equals_lower(line.substr(0, colon), name)) return trimmed(line.substr(colon + 1));
    if (end == std::string_view::npos) break;
    head.remove_prefix(end + 2);
  }
  return {};
}

}  // namespace

bool is_form(std::string_view content_type) {
  return net::equals_lower(trimmed(content_type.substr(0, content_type.find(';'))), kType);
}

base::Result<BodyFacts> scan_form(std::string_view body, std::string_view content_type) {
  const std::string_view boundary = is_form(content_type) ? parameter(content_type, "boundary") : std::string_view();
  if (boundary.empty() || boundary.size() > kMaxBoundaryBytes)
    return base::Error{base::ErrorKind::invalid, "the body must be multipart/form-data, and its Content-Type must name the boundary"};
  const std::string delimiter = "\r\n--" + std::string(boundary);
  BodyFacts facts;
  bool model_seen = false;
  // The first one need not follow a line.
  std::size_t at = body.starts_with(std::string_view(delimiter).substr(2)) ? delimiter.size() - 2 : body.find(delimiter);
  if (at == std::string_view::npos) return wrong("the boundary that Content-Type names is not in it");
  if (!body.starts_with(std::string_view(delimiter).substr(2))) at += delimiter.size();
  for (std::size_t parts = 0;; ++parts) {
    if (body.substr(at).starts_with("--")) break;
    if (parts == kMaxParts) return wrong("more than " + std::to_string(kMaxParts) + " parts");
    const std::size_t head = body.find("\r\n", at);
    if (head == std::string_view::npos || !trimmed(body.substr(at, head - at)).empty()) return wrong("a boundary is not followed by a new line");
    const std::size_t head_end = body.substr(head, kMaxPartHeadBytes).find("\r\n\r\n");
    if (head_end == std::string_view::npos) return wrong("a part without an end of its headers");
    const std::string_view fields = head_end == 0 ? std::string_view() : body.substr(head + 2, head_end - 2);
    const std::size_t data = head + head_end + 4;
    // A part may be empty: then its delimiter begins with what ended its headers.
    const std::size_t end = body.find(delimiter, data - 2);
    if (end == std::string_view::npos) return wrong("the last part does not end");
    const std::string_view value = end < data ? std::string_view() : body.substr(data, end - data);
    const std::string_view name = parameter(header(fields, "content-disposition"), "name");
    if (name == "model") {
      facts.model = value.substr(0, kMaxValueBytes);
      model_seen = true;
    } else if (name == "stream") {
      facts.stream = value == "true" || value == "True" || value == "1";
    }
    at = end + delimiter.size();
  }
  if (!model_seen || facts.model.empty()) return base::Error{base::ErrorKind::invalid, "the field \"model\" is missing; name one of GET /v1/models"};
  return facts;
}

}  // namespace thaw::gateway
