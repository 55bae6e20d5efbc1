#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thaw::cli {

/// Takes a server-sent event stream apart, however the network cut it. Follows the WHATWG event stream format as far as
/// OpenAI streams need it: data fields (several in one event are joined by newlines), comments, LF and CRLF; other
/// fields are ignored.
class SseParser {
 public:
  using DataHandler = std::function<void(std::string_view data)>;
  using CommentHandler = std::function<void(std::string_view comment)>;

  static constexpr std::size_t kMaxEventBytes = 4 << 20;  ///< more in one event, or in one line, is refused

  SseParser(DataHandler on_data, CommentHandler on_comment)
      : on_data_(std::move(on_data)), on_comment_(std::move(on_comment)) {}

  /// Calls the handlers for what `bytes` completed. After a failure the parser is of no more use.
  base::Status feed(std::string_view bytes);

 private:
  base::Status take_line(std::string_view line);

  DataHandler on_data_;
  CommentHandler on_comment_;
  std::string line_;  ///< a line without its end
  std::string data_;  ///< of the event being read
  bool has_data_ = false;
};

}  // namespace thaw::cli
