#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

namespace thaw::audit {

/// Takes a line of ours apart from left to right: no JSON reader, since only one spelling is right. Each call returns
/// false, and all after it do not matter, when the line goes on differently. Views into the line; it must outlive this.
class LineReader {
 public:
  explicit LineReader(std::string_view line) : rest_(line) {}

  bool skip(std::string_view expected) {
    if (!rest_.starts_with(expected)) return false;
    rest_.remove_prefix(expected.size());
    return true;
  }

  bool number(std::uint64_t& into) {
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), into);
    if (error != std::errc{}) return false;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return true;
  }

  /// A string in quotes: "\"", "\\" and "\u00XX" are its escapes.
  bool text(std::string& into) {
    into.clear();
    if (!skip("\"")) return false;
    while (!rest_.empty()) {
      const std::size_t plain = std::min(rest_.find_first_of("\"\\"), rest_.size());
      into.append(rest_.substr(0, plain));
      rest_.remove_prefix(plain);
      if (skip("\"")) return true;
      if (!escape(into)) return false;
    }
    return false;
  }

  /// "2026-11-25T19:53:19.123Z" in quotes. A day that no month has gives another time's milliseconds; encoding those
  /// again shows it.
  bool time(std::int64_t& unix_ms) {
    std::tm utc{};
    std::uint64_t millis = 0;
    const bool read = skip("\"") && digits(4, utc.tm_year) && skip("-") && digits(2, utc.tm_mon) && skip("-") &&
                      digits(2, utc.tm_mday) && skip("T") && digits(2, utc.tm_hour) && skip(":") &&
                      digits(2, utc.tm_min) && skip(":") && digits(2, utc.tm_sec) && skip(".") && digits(3, millis) &&
                      skip("Z\"");
    if (!read) return false;
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    const std::time_t seconds = timegm(&utc);
    if (seconds < 0) return false;
    unix_ms = static_cast<std::int64_t>(seconds) * 1000 + static_cast<std::int64_t>(millis);
    return true;
  }

  [[nodiscard]] bool at_end() const { return rest_.empty(); }

 private:
  template <typename Number>
  bool digits(std::size_t count, Number& into) {
    if (rest_.size() < count || rest_.substr(0, count).find_first_not_of("0123456789") != std::string_view::npos)
      return false;
    std::from_chars(rest_.data(), rest_.data() + count, into);
    rest_.remove_prefix(count);
    return true;
  }

  bool escape(std::string& into) {
    if (skip("\\\"")) return into += '"', true;
    if (skip("\\\\")) return into += '\\', true;
    unsigned code = 0;
    if (!skip("\\u00") || rest_.size() < 2) return false;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + 2, code, 16);
    if (error != std::errc{} || end != rest_.data() + 2) return false;
    into += static_cast<char>(code);
    rest_.remove_prefix(2);
    return true;
  }

  std::string_view rest_;
};

}  // namespace thaw::audit
