#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace thaw::gateway {

/// A member that a request's JSON object is to have.
struct BodySetting {
  std::string key;
  std::string json;       ///< its value, as JSON text
  bool override = false;  ///< whatever the client sent; else only where it sent nothing, or null
};

/// `body` with the settings in it. It must be a JSON object that scan_body() found right: only its top level is looked at, values are copied as they
/// stand. Where a key stands several times, parsers differ in which one they take: an override leaves one.
std::string patch_body(std::string_view body, const std::vector<BodySetting>& settings);

}  // namespace thaw::gateway
