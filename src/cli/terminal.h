#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"
#include "cli/credentials.h"

namespace thaw::cli {

/// What the output can show. Colours and moving text only where a person looks: a pipe gets plain lines.
struct Terminal {
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  bool colours = false;  ///< standard output is a terminal, NO_COLOR is unset or empty, and TERM is not "dumb"
  bool utf8 = false;     ///< the locale says UTF-8: block characters may be used
};
Terminal detect_terminal(const Environment& environment);

enum class Style { plain, bold, dim, green, yellow, red };

/// `text` in a style, or as it is when colours are off.
std::string styled(std::string_view text, Style style, bool colours);

/// Text from a model or an engine's log without the control characters (newlines and tabs stay) that could rewrite the
/// screen or the window's title. For terminals only: a pipe gets every byte.
std::string without_controls(std::string_view text);

/// How many columns a UTF-8 text takes, one a code point.
std::size_t display_width(std::string_view text);

/// A moment ago for people: "now", "42s", "5m", "3h", "12d". Negative counts as now.
std::string format_age(base::Duration age);

/// The same in a sentence: "just now", "5m ago".
std::string format_ago(base::Duration age);

/// Milliseconds for people: "0.4 ms", "12 ms", "1.25 s", "2m5s". At most eight columns for what lasts less than a day.
std::string format_ms(double ms);

}  // namespace thaw::cli
