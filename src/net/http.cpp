#include "net/http.h"

#include <cstring>

namespace thaw::net {
namespace {

constexpr std::uint64_t kMaxChunkBytes = 1ULL << 40;
constexpr std::uint32_t kMaxIdleChunkBytes = 16 * 1024;
constexpr std::uint8_t kMaxSizeDigits = 16;

/// tchar of RFC 9110 5.6.2.
constexpr std::array<bool, 256> make_token_table() {
  std::array<bool, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table[static_cast<std::size_t>(c)] = true;
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<std::size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<std::size_t>(c)] = true;
  for (const char c : {'!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~'})
    table[static_cast<std::size_t>(static_cast<unsigned char>(c))] = true;
  return table;
}
constexpr auto kToken = make_token_table();

bool is_token(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text)
    if (!kToken[static_cast<unsigned char>(c)]) return false;
  return true;
}

/// Header values and targets: no control characters (a tab is allowed in values).
bool has_control(std::string_view text, bool tab_allowed) {
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if ((u < 0x20 && !(tab_allowed && u == '\t')) || u == 0x7f) return true;
  }
  return false;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

Parse refuse(HeadError& error, int status, const char* message) {
  error = {status, message};
  return Parse::bad;
}

/// Takes a line without its CRLF off the front; false if there is none or it ends in a bare LF.
bool take_line(std::string_view& rest, std::string_view& line) {
  const auto end = rest.find('\n');
  if (end == std::string_view::npos || end == 0 || rest[end - 1] != '\r') return false;
  line = rest.substr(0, end - 1);
  rest.remove_prefix(end + 1);
  return true;
}

bool parse_number(std::string_view text, std::uint64_t& number) {
  if (text.empty() || text.size() > 18) return false;
  number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    number = number * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return true;
}

/// What the headers say about the body and the connection, gathered while they are walked once.
struct Framing {
  bool chunked = false;
  bool sized = false;
  std::uint64_t bytes = 0;
  bool close = false;
  bool keep_alive = false;
  bool host = false;
};

/// "" or why the header is refused.
const char* read_framing_header(const Header& header, Head& head, Framing& framing) {
  switch (header.name.size()) {  // by length first: most headers match none
    case 4:
      if (equals_lower(header.name, "host")) {
        if (framing.host) return "Host is given twice";
        framing.host = true;
      }
      break;
    case 6:
      if (equals_lower(header.name, "expect") && equals_lower(header.value, "100-continue")) head.expects_continue = true;
      break;
    case 10:
      if (equals_lower(header.name, "connection")) {
        framing.close = framing.close || has_token(header.value, "close");
        framing.keep_alive = framing.keep_alive || has_token(header.value, "keep-alive");
      }
      break;
    case 14:
      if (equals_lower(header.name, "content-length")) {
        if (framing.sized) return "Content-Length is given twice";
        if (!parse_number(header.value, framing.bytes)) return "Content-Length is no number";
        framing.sized = true;
      }
      break;
    case 17:
      if (equals_lower(header.name, "transfer-encoding")) {
        if (framing.chunked || !equals_lower(header.value, "chunked")) return "the only Transfer-Encoding understood is chunked";
        framing.chunked = true;
      }
      break;
    default: break;
  }
  return "";
}

Parse parse_headers(std::string_view rest, Head& head, Framing& framing, HeadError& error) {
  std::string_view line;
  while (true) {
    if (!take_line(rest, line)) return refuse(error, 400, "a header line does not end in CRLF");
    if (line.empty()) break;
    if (line.front() == ' ' || line.front() == '\t') return refuse(error, 400, "a header is folded over lines");
    const auto colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return refuse(error, 400, "a header has no valid name");
    if (head.header_count == kMaxHeaders) return refuse(error, 431, "more than 64 headers");
    Header& header = head.headers[head.header_count++];
    header = {line.substr(0, colon), trim(line.substr(colon + 1))};
    if (has_control(header.value, true)) return refuse(error, 400, "a header has a control character");
    if (const char* why = read_framing_header(header, head, framing); *why != '\0') return refuse(error, 400, why);
  }
  if (framing.chunked && framing.sized) return refuse(error, 400, "both Content-Length and Transfer-Encoding are given");
  head.keep_alive = head.minor_version >= 1 ? !framing.close : framing.keep_alive && !framing.close;
  return Parse::done;
}

/// A line that ends without CR. Asked only while no end of the head was found: with bare line feeds there would never be one.
bool has_bare_line_feed(std::string_view data) {
  for (std::size_t at = data.find('\n'); at != std::string_view::npos; at = data.find('\n', at + 1))
    if (at == 0 || data[at - 1] != '\r') return true;
  return false;
}

/// Finds the end of the head. more, bad (too long, or it cannot have one) or done with `head.bytes` set.
Parse find_end(std::string_view data, Head& head, HeadError& error) {
  const auto end = data.substr(0, kMaxHeadBytes + 4).find("\r\n\r\n");
  if (end != std::string_view::npos) {
    head.bytes = end + 4;
    return Parse::done;
  }
  if (data.size() > kMaxHeadBytes) return refuse(error, 431, "the head is longer than 16 KiB");
  if (has_bare_line_feed(data)) return refuse(error, 400, "a line does not end in CRLF");
  return Parse::more;
}

bool parse_version(std::string_view text, int& minor) {
  if (text.size() != 8 || text.substr(0, 7) != "HTTP/1." || (text[7] != '0' && text[7] != '1')) return false;
  minor = text[7] - '0';
  return true;
}

}  // namespace

bool equals_lower(std::string_view text, std::string_view lower_case) {
  if (text.size() != lower_case.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (lower(text[i]) != lower_case[i]) return false;
  return true;
}

bool has_token(std::string_view list, std::string_view lower_case) {
  while (!list.empty()) {
    const auto comma = list.find(',');
    if (equals_lower(trim(list.substr(0, comma)), lower_case)) return true;
    if (comma == std::string_view::npos) return false;
    list.remove_prefix(comma + 1);
  }
  return false;
}

std::optional<std::string_view> Head::find(std::string_view name) const {
  for (std::size_t i = 0; i < header_count; ++i)
    if (equals_lower(headers[i].name, name)) return headers[i].value;
  return std::nullopt;
}

Parse parse_request(std::string_view data, Head& head, HeadError& error) {
  head.reset();
  if (const Parse found = find_end(data, head, error); found != Parse::done) return found;
  std::string_view rest = data.substr(0, head.bytes);
  std::string_view line;
  if (!take_line(rest, line)) return refuse(error, 400, "the request line does not end in CRLF");
  const auto first = line.find(' ');
  const auto last = line.rfind(' ');
  if (first == std::string_view::npos || last == first) return refuse(error, 400, "the request line is malformed");
  head.method = line.substr(0, first);
  head.target = line.substr(first + 1, last - first - 1);
  if (!is_token(head.method)) return refuse(error, 400, "the method is malformed");
  if (!parse_version(line.substr(last + 1), head.minor_version)) return refuse(error, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
  if (head.target.empty() || head.target.front() != '/' || head.target.find(' ') != std::string_view::npos ||
      has_control(head.target, false))
    return refuse(error, 400, "the request target is no absolute path");
  Framing framing;
  if (const Parse parsed = parse_headers(rest, head, framing, error); parsed != Parse::done) return parsed;
  if (!framing.host && head.minor_version >= 1) return refuse(error, 400, "HTTP/1.1 needs a Host");
  if (framing.chunked && head.minor_version == 0) return refuse(error, 400, "HTTP/1.0 has no chunked bodies");
  if (framing.chunked) {
    head.body = {BodyLength::Kind::chunked, 0};
  } else if (framing.sized && framing.bytes > 0) {
    head.body = {BodyLength::Kind::sized, framing.bytes};
  }
  return Parse::done;
}

Parse parse_response(std::string_view data, bool to_head, Head& head, HeadError& error) {
  head.reset();
  if (const Parse found = find_end(data, head, error); found != Parse::done) return found;
  std::string_view rest = data.substr(0, head.bytes);
  std::string_view line;
  std::uint64_t status = 0;
  if (!take_line(rest, line) || line.size() < 12 || !parse_version(line.substr(0, 8), head.minor_version) || line[8] != ' ' ||
      !parse_number(line.substr(9, 3), status) || status < 100 || (line.size() > 12 && line[12] != ' '))
    return refuse(error, 502, "the status line is malformed");
  head.status = static_cast<int>(status);
  Framing framing;
  if (const Parse parsed = parse_headers(rest, head, framing, error); parsed != Parse::done) {
    error.status = 502;
    return parsed;
  }
  if (to_head || status < 200 || status == 204 || status == 304) {
    head.body = {};
  } else if (framing.chunked) {
    head.body = {BodyLength::Kind::chunked, 0};
  } else if (framing.sized) {
    head.body = {framing.bytes > 0 ? BodyLength::Kind::sized : BodyLength::Kind::none, framing.bytes};
  } else {
    head.body = {BodyLength::Kind::until_close, 0};
    head.keep_alive = false;
  }
  return Parse::done;
}

void ChunkScanner::framing(char c) {
  const auto digit = [](char d) -> int {
    if (d >= '0' && d <= '9') return d - '0';
    if (d >= 'a' && d <= 'f') return d - 'a' + 10;
    if (d >= 'A' && d <= 'F') return d - 'A' + 10;
    return -1;
  };
  switch (state_) {
    case State::size_first:
    case State::size: {
      const int value = digit(c);
      if (value >= 0) {
        size_digits_ = state_ == State::size_first ? std::uint8_t{1} : static_cast<std::uint8_t>(size_digits_ + 1);
        left_ = (state_ == State::size_first ? 0 : left_ << 4) + static_cast<std::uint64_t>(value);
        state_ = left_ > kMaxChunkBytes || size_digits_ > kMaxSizeDigits ? State::bad : State::size;
      } else if (state_ == State::size_first) {
        state_ = State::bad;
      } else if (c == '\r') {
        state_ = State::size_lf;
      } else {
        state_ = c == ';' || c == ' ' || c == '\t' ? State::extension : State::bad;
      }
      break;
    }
    case State::extension:
      if (c == '\r') state_ = State::size_lf;
      else if (c == '\n' || ++idle_bytes_ > kMaxIdleChunkBytes) state_ = State::bad;
      break;
    case State::size_lf:
      if (c != '\n') state_ = State::bad;
      else state_ = left_ == 0 ? State::trailer_start : State::content;
      break;
    case State::content_cr: state_ = c == '\r' ? State::content_lf : State::bad; break;
    case State::content_lf: state_ = c == '\n' ? State::size_first : State::bad; break;
    case State::trailer_start: state_ = c == '\r' ? State::end_lf : (c == '\n' ? State::bad : State::trailer); ++idle_bytes_; break;
    case State::trailer:
      if (c == '\r') state_ = State::trailer_lf;
      else if (c == '\n' || ++idle_bytes_ > kMaxIdleChunkBytes) state_ = State::bad;
      break;
    case State::trailer_lf: state_ = c == '\n' ? State::trailer_start : State::bad; break;
    case State::end_lf: state_ = c == '\n' ? State::done : State::bad; break;
    case State::content:
    case State::done:
    case State::bad: break;
  }
}

bool ChunkScanner::complete_chunk(std::string& out) const {
  constexpr std::uint64_t kMaxMissingBytes = 64 * 1024;
  switch (state_) {
    case State::size_first: return true;
    case State::content:
      if (left_ > kMaxMissingBytes) return false;
      out.append(static_cast<std::size_t>(left_), '\n').append("\r\n");
      return true;
    case State::content_cr: out.append("\r\n"); return true;
    case State::content_lf: out.append("\n"); return true;
    default: return false;
  }
}

}  // namespace thaw::net
