#include "audit/record.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "audit/line_reader.h"

namespace thaw::audit {
namespace {

constexpr std::array<const char*, 5> kEvents{"begun", "done", "refused", "interrupted", "note"};
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr std::int64_t kMaxUnixMs = 253'402'300'799'999;   // the end of the year 9999: four digits

/// Length of the UTF-8 character that `text` begins with (RFC 3629, section 4); 0: it begins with none.
std::size_t character_bytes(std::string_view text) {
  const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto follows = [&](std::size_t i) { return (at(i) & 0xC0U) == 0x80U; };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return follows(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const bool overlong = first == 0xE0 && at(1) < 0xA0;
    const bool surrogate = first == 0xED && at(1) > 0x9F;
    return follows(1) && follows(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const bool overlong = first == 0xF0 && at(1) < 0x90;
    const bool beyond = first == 0xF4 && at(1) > 0x8F;
    return follows(1) && follows(2) && follows(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

void append_text(std::string& line, std::string_view text) {
  std::size_t written = 0;
  line += '"';
  while (!text.empty()) {
    const std::size_t bytes = character_bytes(text);
    const std::string_view character = bytes == 0 ? kReplacement : text.substr(0, bytes);
    written += character.size();
    if (written > Record::kMaxText) break;
    const auto code = static_cast<unsigned char>(character[0]);
    if (code == '"' || code == '\\')
      line.append(1, '\\').append(character);
    else if (code < 0x20 || code == 0x7F)
      line += fmt::format("\\u{:04x}", code);
    else
      line.append(character);
    text.remove_prefix(std::max<std::size_t>(bytes, 1));
  }
  line += '"';
}

bool is_hash(std::string_view text) {
  return text.size() == kHashDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Everything before `,"hash":`.
std::string encode_body(const Record& record) {
  std::string line = fmt::format(R"({{"seq":{},"time":"{}","event":"{}")", record.seq, format_time(record.unix_ms),
                                 to_string(record.event));
  const std::array<std::pair<const char*, const std::string*>, 7> texts{{{"action", &record.action},
                                                                         {"who", &record.who},
                                                                         {"from", &record.from},
                                                                         {"method", &record.method},
                                                                         {"route", &record.route},
                                                                         {"subject", &record.subject},
                                                                         {"request", &record.request}}};
  for (const auto& [name, text] : texts) {
    line.append(",\"").append(name).append("\":");
    append_text(line, *text);
  }
  line += fmt::format(R"(,"status":{},"detail":)", record.status);
  append_text(line, record.detail);
  line.append(R"(,"prev":")").append(record.prev).append("\"");
  return line;
}

base::Error wrong(const char* why) {
  return {base::ErrorKind::invalid, why};
}

bool read_event(LineReader& in, Event& event) {
  std::string name;
  if (!in.text(name)) return false;
  const auto* const found = std::find(kEvents.begin(), kEvents.end(), name);
  if (found == kEvents.end()) return false;
  event = static_cast<Event>(found - kEvents.begin());
  return true;
}

}  // namespace

const char* to_string(Event event) {
  return kEvents.at(static_cast<std::size_t>(event));
}

std::string first_prev() {
  return std::string(kHashDigits, '0');
}

std::string sha256_hex(std::string_view bytes) {
  // Fetched once: looking the implementation up takes longer than hashing a line.
  static const std::unique_ptr<EVP_MD, void (*)(EVP_MD*)> sha256(EVP_MD_fetch(nullptr, "SHA256", nullptr),
                                                                 &EVP_MD_free);
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, sha256.get(), nullptr) != 1)
    return {};  // out of memory: equals no hash
  return fmt::format("{:02x}", fmt::join(digest, ""));
}

std::string format_time(std::int64_t unix_ms) {
  unix_ms = std::clamp<std::int64_t>(unix_ms, 0, kMaxUnixMs);
  const std::time_t seconds = unix_ms / 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                     utc.tm_hour, utc.tm_min, utc.tm_sec, unix_ms % 1000);
}

std::string encode(const Record& record) {
  std::string line = encode_body(record);
  const std::string hash = sha256_hex(line);
  return line.append(R"(,"hash":")").append(hash).append("\"}");
}

base::Result<Record> decode(std::string_view line) {
  if (line.size() > kMaxLineBytes) return wrong("the line is longer than any record");
  Record record;
  LineReader in(line);
  std::uint64_t status = 0;
  const bool read =
      in.skip(R"({"seq":)") && in.number(record.seq) && in.skip(R"(,"time":)") && in.time(record.unix_ms) &&
      in.skip(R"(,"event":)") && read_event(in, record.event) && in.skip(R"(,"action":)") && in.text(record.action) &&
      in.skip(R"(,"who":)") && in.text(record.who) && in.skip(R"(,"from":)") && in.text(record.from) &&
      in.skip(R"(,"method":)") && in.text(record.method) && in.skip(R"(,"route":)") && in.text(record.route) &&
      in.skip(R"(,"subject":)") && in.text(record.subject) && in.skip(R"(,"request":)") && in.text(record.request) &&
      in.skip(R"(,"status":)") && in.number(status) && status < 1000 && in.skip(R"(,"detail":)") &&
      in.text(record.detail) && in.skip(R"(,"prev":)") && in.text(record.prev) && in.skip(R"(,"hash":)") &&
      in.text(record.hash) && in.skip("}") && in.at_end();
  if (!read) return wrong("the line is no record");
  record.status = static_cast<std::uint32_t>(status);
  if (record.seq == 0 || !is_hash(record.prev) || !is_hash(record.hash)) return wrong("the line is no record");
  // Written again and compared: what could be read in two ways, or was shortened, is refused with what was altered.
  if (encode(record) != line) return wrong("the record does not have the hash that it carries");
  return record;
}

}  // namespace thaw::audit
