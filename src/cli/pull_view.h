#pragma once

#include <functional>
#include <string>

#include <boost/json/object.hpp>

#include "base/result.h"
#include "cli/client.h"
#include "cli/context.h"

namespace thaw::cli {

/// Follows one pull of the server's to its end and shows how it goes, on the error stream: on a terminal one line that is
/// drawn anew, else a line every few seconds. What is said last is the caller's.
struct FollowedPull {
  StreamEnd end = StreamEnd::complete;  ///< interrupted: by Ctrl-C; the pull goes on
  boost::json::object pull;             ///< as the server last described it
};
/// `look`: how it is now; asked for again and again.
using LookAtPull = std::function<base::Result<boost::json::object>()>;
base::Result<FollowedPull> follow_pull(Context& context, const boost::json::object& begun, const LookAtPull& look);

/// One line about it, at most `width` columns: " 43% ━━━━──── 1.2GiB/2.8GiB  112MiB/s  14s  m.gguf". `utf8`: whether the bar may be drawn with
/// block characters.
std::string pull_line(const boost::json::object& pull, std::size_t width, bool utf8);

}  // namespace thaw::cli
