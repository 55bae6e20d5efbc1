#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spec/problems.h"

namespace thaw::spec {

/// A piece of YAML as written, before anybody decides what it means: scalars stay text, every value knows its place.
struct YamlValue {
  enum class Kind { null, scalar, sequence, mapping };
  struct Key {
    std::string text;
    Place place;
  };

  Kind kind = Kind::null;
  Place place;
  std::string text;              ///< of a scalar
  bool quoted = false;           ///< a scalar in quotes or a block: text, never a number
  std::vector<YamlValue> items;  ///< of a sequence; of a mapping the values
  std::vector<Key> keys;         ///< of a mapping, beside `items`; may repeat
};

/// What a spec may cost to read, whoever wrote it. Anchors and aliases are refused: a text that needs none cannot
/// expand.
constexpr std::size_t kMaxYamlBytes = 1ULL << 20;
constexpr std::size_t kMaxYamlDepth = 32;
constexpr std::size_t kMaxYamlValues = 10'000;

/// Reads exactly one document. Nothing, with a problem added, when the text is no YAML or breaks a bound above.
std::optional<YamlValue> read_yaml(std::string_view text, Problems& problems);

}  // namespace thaw::spec
