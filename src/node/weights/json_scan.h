#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "node/weights/buffered_file.h"

/// The problem: headers of weight files are JSON of up to 100 MB that anybody may have written. As a tree they would take a multiple of that in
/// memory before the first check; here they are handed over piece by piece, in linear time, and whoever takes them keeps what is asked for.
namespace thaw::node {

enum class JsonEvent { object_begin, object_end, array_begin, array_end, key, string, natural, other };

/// Takes what a JSON text holds, in its order. An error ends the scan.
class JsonSink {
 public:
  virtual ~JsonSink() = default;
  /// `text`: of a key or string, unescaped, valid during the call; of a long string only its first JsonLimits::string_bytes, `number` being 1 then.
  /// For `other` it says what was found ("a fraction"). `number`: of a natural.
  virtual base::Status take(JsonEvent event, std::string_view text, std::uint64_t number) = 0;
};

struct JsonLimits {
  std::size_t depth = 8;           ///< of objects and arrays in each other
  std::size_t key_bytes = 4096;    ///< a longer key is refused
  std::size_t string_bytes = 256;  ///< longer strings are cut for the sink
  bool begins_with_brace = false;  ///< "{" must be the very first byte
};

/// Scans the next `bytes` of `file` as one JSON text: UTF-8, nothing but white space around it. Memory: constant. Errors: the sink's and invalid,
/// both with the place in the file; and what reading the file meets.
base::Status scan_json(BufferedFile& file, std::uint64_t bytes, const JsonLimits& limits, JsonSink& sink);

}  // namespace thaw::node
