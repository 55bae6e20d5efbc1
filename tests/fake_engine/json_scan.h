#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thaw::fake_engine {

/// Just enough JSON to read an OpenAI request without building a tree: values are looked up by key in one object and returned as they
/// are written. Damaged input gives empty results, never a crash.

/// The value of `key` in the object that `object` holds: the text of a number, string (with its quotes), array, object, true …; empty if absent.
std::string_view json_member(std::string_view object, std::string_view key);

/// The elements of the array that `array` holds, as written.
std::vector<std::string_view> json_elements(std::string_view array);

/// The contents of a string without its quotes, still escaped (so it can be written into JSON again as it is). Empty if it is no string.
std::string_view json_string(std::string_view value);

std::optional<std::int64_t> json_integer(std::string_view value);

}  // namespace thaw::fake_engine
