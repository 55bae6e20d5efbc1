#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "base/result.h"

namespace thaw::gateway {

/// The fields of a small JSON object that a client sent: each is asked for once, and what is of another type, out of
/// bounds or was never asked for is an error that names it. The first one stays.
class JsonBody {
 public:
  /// An empty body is an empty object. At most 64 KiB.
  explicit JsonBody(std::string_view text);

  std::string text(std::string_view key, std::size_t max_bytes);  ///< "" when absent
  bool flag(std::string_view key);                                ///< false when absent
  std::optional<std::int64_t> whole(std::string_view key, std::int64_t min, std::int64_t max);
  std::vector<std::string> words(std::string_view key, std::size_t max_words, std::size_t max_bytes);
  void refuse(std::string_view key, std::string_view why);

  /// After all were asked for.
  [[nodiscard]] base::Status finish();

 private:
  const boost::json::value* take(std::string_view key);
  boost::json::object object_;
  std::vector<std::string> known_;
  std::optional<base::Error> error_;
};

}  // namespace thaw::gateway
