#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thaw::audit {

/// What a record says of an act. An act has two: `begun` before it is carried out, `done` before it is answered.
enum class Event {
  begun,        ///< somebody who may do so asked for it; it is carried out next
  done,         ///< its result
  refused,      ///< somebody was turned away
  interrupted,  ///< begun before the process died: written at the next start, the result is not known
  note,         ///< of the log itself and of the server: opened, repaired, sealed, expired, started
};

const char* to_string(Event event);

/// One line of the log. Texts are UTF-8; encode() shortens what is longer than kMaxText and replaces what is no UTF-8.
struct Record {
  static constexpr std::size_t kMaxText = 512;

  std::uint64_t seq = 0;     ///< 1, 2, 3, ... over all files
  std::int64_t unix_ms = 0;  ///< years 1970 to 9999
  Event event = Event::note;
  std::string action;        ///< "model.deploy"
  std::string who;           ///< "key:1", "dev", "local" (who runs the server), "unknown"
  std::string from;          ///< the client's address; empty: this host's operator
  std::string method;        ///< of the HTTP request
  std::string route;         ///< the route's pattern, or the path that was asked for when there is no such route
  std::string subject;       ///< what it is done to: a model's name, an image's id
  std::string request;       ///< the request's id, as in x-request-id
  std::uint32_t status = 0;  ///< the HTTP status of the answer; 0: none yet
  std::string detail;        ///< an error's code, a digest of what was sent, a place in a file
  std::string prev;          ///< the record before's `hash`; of the first one 64 zeros
  std::string hash;          ///< SHA-256, 64 hex digits, of the line up to `,"hash":`
  std::string private_to;    ///< whose `from` is: AuditLog seals it with that tenant's key; empty: nobody's. Not part of the line

  bool operator==(const Record&) const = default;
};

/// Longest line without its newline: eight texts of which every byte is escaped, two hashes, numbers and names.
inline constexpr std::size_t kMaxLineBytes = 8 * 6 * Record::kMaxText + 1024;
inline constexpr std::size_t kHashDigits = 64;

/// `prev` of the very first record.
std::string first_prev();

/// The line, without a newline: JSON in which every field stands, always in the same order. Computes `hash` (what the
/// record holds is ignored).
std::string encode(const Record& record);

/// Reads a line back. Only what encode() writes is taken, to the byte: a line has one meaning, and a meaning one line.
/// The hash must be the line's own. ErrorKind::invalid says what is wrong.
base::Result<Record> decode(std::string_view line);

/// "2026-11-25T19:53:19.123Z"
std::string format_time(std::int64_t unix_ms);

/// SHA-256 in hex.
std::string sha256_hex(std::string_view bytes);

}  // namespace thaw::audit
