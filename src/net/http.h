#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

/// HTTP/1.1 (RFC 9112) as a relay needs it: heads are parsed in place into views, bodies are only measured. Strict where leniency would let two
/// parties disagree about where a message ends: bare LF, folded headers, both Content-Length and Transfer-Encoding, repeated Content-Length or
/// Host, and any coding but chunked are refused. Upgrade is ignored, as RFC 9110 allows (Java's client asks for h2c by itself): what follows is
/// HTTP/1.1 for both sides.
namespace thaw::net {

constexpr std::size_t kMaxHeadBytes = 16 * 1024;
constexpr std::size_t kMaxHeaders = 64;

struct Header {
  std::string_view name;   ///< as written
  std::string_view value;  ///< without surrounding blanks
};

/// How far a message's body goes.
struct BodyLength {
  enum class Kind { none, sized, chunked, until_close };
  Kind kind = Kind::none;
  std::uint64_t bytes = 0;  ///< if sized
};

struct Head {
  // of a request
  std::string_view method;
  std::string_view target;  ///< origin form, as sent
  // of a response
  int status = 0;

  int minor_version = 1;
  std::array<Header, kMaxHeaders> headers;
  std::size_t header_count = 0;
  BodyLength body;
  bool keep_alive = true;
  bool expects_continue = false;
  std::size_t bytes = 0;  ///< of the head, with its empty line

  /// Ready for the next message. The headers of the last stay behind header_count: 2 KiB that need not be written anew for each.
  void reset() {
    method = target = {};
    status = 0;
    minor_version = 1;
    header_count = 0;
    body = {};
    keep_alive = true;
    expects_continue = false;
    bytes = 0;
  }

  /// Value of the first header of that name (given in lower case); nullopt if absent.
  [[nodiscard]] std::optional<std::string_view> find(std::string_view lower_case_name) const;
  [[nodiscard]] std::string_view path() const { return target.substr(0, target.find('?')); }
  [[nodiscard]] std::string_view query() const {
    const auto mark = target.find('?');
    return mark == std::string_view::npos ? std::string_view{} : target.substr(mark + 1);
  }
};

enum class Parse { more, done, bad };

/// Why a head was refused, with the status to answer.
struct HeadError {
  int status = 400;
  const char* message = "";
};

/// `data` begins with a message. done: `head` is filled, its views point into `data`. more: the head is not complete (and not too long
/// yet). bad: `error` says why.
Parse parse_request(std::string_view data, Head& head, HeadError& error);
/// `to_head`: the request was HEAD, so that no body follows.
Parse parse_response(std::string_view data, bool to_head, Head& head, HeadError& error);

/// Case-insensitive equality; `lower` is in lower case already.
bool equals_lower(std::string_view text, std::string_view lower);
/// Whether a comma-separated list (Connection) has the token.
bool has_token(std::string_view list, std::string_view lower);

/// Walks over a chunked body without copying: tells data from framing and finds the end.
class ChunkScanner {
 public:
  /// Takes bytes off the front of `data`. Returns how many belong to this body (all of them until it ends); calls on_data with each
  /// run of content. Check done() and bad() after.
  template <typename OnData>
  std::size_t scan(std::string_view data, OnData&& on_data) {
    std::size_t at = 0;
    while (at < data.size() && state_ != State::done && state_ != State::bad) {
      if (state_ == State::content) {
        const std::size_t run = left_ < data.size() - at ? static_cast<std::size_t>(left_) : data.size() - at;
        on_data(data.substr(at, run));
        at += run;
        left_ -= run;
        if (left_ == 0) state_ = State::content_cr;
      } else {
        framing(data[at++]);
      }
    }
    return at;
  }
  [[nodiscard]] bool done() const { return state_ == State::done; }
  [[nodiscard]] bool bad() const { return state_ == State::bad; }
  /// Appends what completes the chunk that scan() stopped in, so that another can follow: its missing content as newlines. False
  /// if it stopped inside a size or trailer line, or too much is missing.
  [[nodiscard]] bool complete_chunk(std::string& out) const;

 private:
  enum class State : std::uint8_t { size_first, size, extension, size_lf, content, content_cr, content_lf, trailer_start, trailer, trailer_lf, end_lf, done, bad };
  void framing(char c);

  State state_ = State::size_first;
  std::uint8_t size_digits_ = 0;  ///< of the size being read, bounded
  std::uint32_t idle_bytes_ = 0;  ///< of all extensions and trailers, bounded: a body of nothing else would never end
  std::uint64_t left_ = 0;
};

}  // namespace thaw::net
