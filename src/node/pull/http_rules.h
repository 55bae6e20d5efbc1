#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/pull/range_plan.h"
#include "spec/source_ref.h"

/// What HTTP's headers mean to a pull, and where it may be sent on to. Pure.
namespace thaw::node::pull {

/// "bytes 0-1048575/1185376" (RFC 9110, 14.4). Nothing for every other text, also for unknown lengths ("/*"): a pull needs them.
struct ContentRange {
  Range range;
  std::uint64_t total_bytes = 0;
};
std::optional<ContentRange> parse_content_range(std::string_view text);

/// Retry-After in seconds; its other form, a date, is not read: nothing.
std::optional<base::Duration> parse_retry_after(std::string_view text);

/// A validator that promises the same bytes: an ETag without W/. Empty else.
std::string strong_etag(std::string_view text);

/// How long to wait before the n-th try in a row (from 1) that brought nothing: doubled each time, within bounds.
struct Backoff {
  base::Duration first = base::Millis(500);
  base::Duration longest = base::Seconds(30);
  std::uint32_t tries = 8;  ///< and then no more
};
base::Duration wait_before(const Backoff& backoff, std::uint32_t attempt);

/// Who may be asked at all.
struct SourceRules {
  bool allow_http = false;
  bool allow_private = false;
  std::vector<std::string> private_hosts;  ///< may have addresses that are not public
  std::vector<std::string> http_hosts;     ///< may be asked without TLS: the hub that the operator named
};
/// Before a request: of the name, not of its address.
base::Status check_url(const spec::Url& url, const SourceRules& rules);
/// Whether this host's addresses may be private ones.
bool may_be_private(const spec::Url& url, const SourceRules& rules);
/// Before a redirect is followed: also never from https to http.
base::Status check_redirect(const spec::Url& from, const spec::Url& to, const SourceRules& rules);

}  // namespace thaw::node::pull
