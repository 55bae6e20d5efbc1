#pragma once

#include <string>
#include <vector>

namespace thaw::spec {

/// Members of requests' JSON bodies that a model sets.
struct Parameters {
  struct Entry {
    std::string key;
    std::string json;  ///< its value, as JSON text
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  std::vector<Entry> defaults;   ///< where the client sends nothing, or null
  std::vector<Entry> overrides;  ///< whatever the client sends

  [[nodiscard]] bool empty() const { return defaults.empty() && overrides.empty(); }
};

}  // namespace thaw::spec
