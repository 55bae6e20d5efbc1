#include "node/weights/json_scan.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <boost/json/basic_parser_impl.hpp>

namespace thaw::node {
namespace {

namespace json = boost::json;
using base::Error;
using base::ErrorKind;

constexpr std::size_t kPieceBytes = 64U << 10;

/// Between Boost's parser, which hands over pieces, and a sink, which wants whole keys and strings.
class Handler {
 public:
  // What the parser itself refuses; the bounds that matter are our own.
  static constexpr std::size_t max_object_size = SIZE_MAX;
  static constexpr std::size_t max_array_size = SIZE_MAX;
  static constexpr std::size_t max_key_size = SIZE_MAX;
  static constexpr std::size_t max_string_size = SIZE_MAX;

  Handler(const JsonLimits& limits, JsonSink& sink) : limits_(limits), sink_(sink) {}

  /// Why the parser was told to end.
  [[nodiscard]] const std::optional<Error>& refusal() const { return refusal_; }

  bool on_document_begin(json::error_code& /*ec*/) { return true; }
  bool on_document_end(json::error_code& /*ec*/) { return true; }
  bool on_object_begin(json::error_code& ec) { return give(JsonEvent::object_begin, {}, 0, ec); }
  bool on_object_end(std::size_t /*count*/, json::error_code& ec) { return give(JsonEvent::object_end, {}, 0, ec); }
  bool on_array_begin(json::error_code& ec) { return give(JsonEvent::array_begin, {}, 0, ec); }
  bool on_array_end(std::size_t /*count*/, json::error_code& ec) { return give(JsonEvent::array_end, {}, 0, ec); }

  bool on_key_part(json::string_view part, std::size_t total_bytes, json::error_code& ec) {
    if (total_bytes > limits_.key_bytes) return refuse({ErrorKind::invalid, fmt::format("a key is longer than {} bytes", limits_.key_bytes)}, ec);
    text_.append(part.data(), part.size());
    return true;
  }
  bool on_key(json::string_view part, std::size_t total_bytes, json::error_code& ec) {
    return on_key_part(part, total_bytes, ec) && give_text(JsonEvent::key, 0, ec);
  }
  bool on_string_part(json::string_view part, std::size_t /*total_bytes*/, json::error_code& /*ec*/) {
    text_.append(part.data(), std::min(part.size(), limits_.string_bytes - text_.size()));
    return true;
  }
  bool on_string(json::string_view part, std::size_t total_bytes, json::error_code& ec) {
    return on_string_part(part, total_bytes, ec) && give_text(JsonEvent::string, total_bytes > limits_.string_bytes ? 1 : 0, ec);
  }

  bool on_number_part(json::string_view /*part*/, json::error_code& /*ec*/) { return true; }
  bool on_int64(std::int64_t number, json::string_view /*text*/, json::error_code& ec) {
    if (number < 0) return give(JsonEvent::other, "a negative number", 0, ec);
    return give(JsonEvent::natural, {}, static_cast<std::uint64_t>(number), ec);
  }
  bool on_uint64(std::uint64_t number, json::string_view /*text*/, json::error_code& ec) { return give(JsonEvent::natural, {}, number, ec); }
  bool on_double(double /*number*/, json::string_view /*text*/, json::error_code& ec) {
    return give(JsonEvent::other, "a fraction or a number beyond 2^64", 0, ec);
  }
  bool on_bool(bool /*value*/, json::error_code& ec) { return give(JsonEvent::other, "true or false", 0, ec); }
  bool on_null(json::error_code& ec) { return give(JsonEvent::other, "null", 0, ec); }
  bool on_comment_part(json::string_view /*part*/, json::error_code& /*ec*/) { return true; }
  bool on_comment(json::string_view /*part*/, json::error_code& /*ec*/) { return true; }

 private:
  bool give(JsonEvent event, std::string_view text, std::uint64_t number, json::error_code& ec) {
    auto taken = sink_.take(event, text, number);
    return taken.ok() || refuse(taken.error(), ec);
  }
  bool give_text(JsonEvent event, std::uint64_t number, json::error_code& ec) {
    const bool taken = give(event, text_, number, ec);
    text_.clear();
    return taken;
  }
  bool refuse(Error why, json::error_code& ec) {
    refusal_ = std::move(why);
    ec = json::error::syntax;  // any: it ends the parser, and refusal_ says the rest
    return false;
  }

  const JsonLimits& limits_;
  JsonSink& sink_;
  std::string text_;
  std::optional<Error> refusal_;
};

Error at_place(Error error, std::uint64_t position) {
  error.message += fmt::format(" (at byte {})", position);
  return error;
}

}  // namespace

base::Status scan_json(BufferedFile& file, std::uint64_t bytes, const JsonLimits& limits, JsonSink& sink) {
  json::parse_options options;
  options.max_depth = limits.depth;
  json::basic_parser<Handler> parser(options, limits, sink);
  std::array<char, kPieceBytes> piece;  // NOLINT(cppcoreguidelines-pro-type-member-init): read into before it is read
  for (std::uint64_t left = bytes; left > 0;) {
    const std::uint64_t place = file.position();
    const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(left, piece.size()));
    THAW_RETURN_IF_ERROR(file.read(piece.data(), step));
    if (left == bytes && limits.begins_with_brace && piece.front() != '{')
      return at_place({ErrorKind::invalid, "it does not begin with \"{\""}, place);
    left -= step;
    json::error_code error;
    const std::size_t used = parser.write_some(left > 0, piece.data(), step, error);
    if (parser.handler().refusal()) return at_place(*parser.handler().refusal(), place + used);
    if (error == json::error::too_deep) {
      return at_place({ErrorKind::invalid, fmt::format("objects and arrays lie more than {} deep in each other", limits.depth)}, place + used);
    }
    if (error == json::error::incomplete) break;
    if (error) return at_place({ErrorKind::invalid, "no JSON: " + error.message()}, place + used);
    if (used < step) return at_place({ErrorKind::invalid, "something follows the end of the JSON"}, place + used);
  }
  if (!parser.done()) return at_place({ErrorKind::invalid, "no JSON: it ends too early"}, file.position());
  return {};
}

}  // namespace thaw::node
