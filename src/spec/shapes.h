#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/time.h"

/// Pieces of JSON Schema, as text. Each says what the reader of the same name in fields.h takes.
namespace thaw::spec::shapes {

struct Property {
  std::string key;
  std::string shape;
  bool required = false;
};

inline constexpr const char* kAnything = "true";

std::string text();
std::string whole(std::uint64_t min, std::uint64_t max);
std::string real(double min, double max);
std::string bytes(std::uint64_t min, std::uint64_t max);    ///< a number, or text such as "64MiB"
std::string duration();                                     ///< text such as "1m30s"; its bounds are beyond a schema
std::string choice(const std::vector<std::string>& names);  ///< "true" and "false" stand for the booleans, too
std::string either(const std::vector<std::string>& shapes);
std::string list(const std::string& of, std::size_t at_most);
std::string map(const std::string& of);  ///< any keys
std::string constant(const std::string& value);
std::string object(const std::vector<Property>& properties);  ///< these keys and no others

/// The whole of a schema: `object` with where it belongs and what it is called.
std::string document(const std::string& title, const std::string& object);

}  // namespace thaw::spec::shapes
