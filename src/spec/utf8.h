#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace thaw::spec {

/// Index of the first byte that is no UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF);
/// text.size() when all of it is.
std::size_t find_invalid_utf8(std::string_view text);

/// Each byte that is no UTF-8 as U+FFFD: for words from elsewhere that go into JSON.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace thaw::spec
