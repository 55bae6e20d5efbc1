#include "cli/sse.h"

namespace thaw::cli {
namespace {

const base::Error& too_long() {
  static const base::Error error{base::ErrorKind::internal, "the server sent an event that is longer than 4 MiB"};
  return error;
}

}  // namespace

base::Status SseParser::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    if (line_.size() + piece.size() > kMaxEventBytes) return too_long();
    line_.append(piece);
    if (end == std::string_view::npos) return {};
    bytes.remove_prefix(end + 1);

    std::string_view line = line_;
    if (line.ends_with('\r')) line.remove_suffix(1);
    THAW_RETURN_IF_ERROR(take_line(line));
    line_.clear();
  }
  return {};
}

base::Status SseParser::take_line(std::string_view line) {
  if (line.empty()) {  // the end of an event
    if (has_data_) on_data_(data_);
    data_.clear();
    has_data_ = false;
    return {};
  }
  const std::size_t colon = line.find(':');
  std::string_view value = colon == std::string_view::npos ? std::string_view{} : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (colon == 0) {
    on_comment_(value);
  } else if (line.substr(0, colon) == "data") {
    if (data_.size() + value.size() > kMaxEventBytes) return too_long();
    if (has_data_) data_ += '\n';
    data_ += value;
    has_data_ = true;
  }
  return {};
}

}  // namespace thaw::cli
