#include "node/pull/http_rules.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace thaw::node::pull {
namespace {

using base::Error;
using base::ErrorKind;

std::optional<std::uint64_t> natural(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool has(const std::vector<std::string>& hosts, const std::string& host) {
  return std::find(hosts.begin(), hosts.end(), host) != hosts.end();
}

}  // namespace

std::optional<ContentRange> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) return std::nullopt;
  text.remove_prefix(kUnit.size());
  const auto dash = text.find('-');
  const auto slash = text.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || slash < dash) return std::nullopt;
  const auto first = natural(text.substr(0, dash));
  const auto last = natural(text.substr(dash + 1, slash - dash - 1));
  const auto total = natural(text.substr(slash + 1));
  if (!first || !last || !total || *first > *last || *last >= *total) return std::nullopt;
  return ContentRange{{*first, *last + 1}, *total};
}

std::optional<base::Duration> parse_retry_after(std::string_view text) {
  constexpr std::uint64_t kLongest_s = 365ULL * 24 * 3600;
  const auto seconds = natural(text);
  if (!seconds) return std::nullopt;
  return base::Seconds(std::min(*seconds, kLongest_s));
}

std::string strong_etag(std::string_view text) {
  const bool quoted = text.size() >= 2 && text.starts_with('"') && text.ends_with('"');
  return quoted && text.size() <= 512 ? std::string(text) : std::string();
}

base::Duration wait_before(const Backoff& backoff, std::uint32_t attempt) {
  base::Duration wait = backoff.first;
  for (std::uint32_t i = 1; i < attempt && wait < backoff.longest; ++i) wait *= 2;
  return std::min(wait, backoff.longest);
}

base::Status check_url(const spec::Url& url, const SourceRules& rules) {
  if (url.https || rules.allow_http || has(rules.http_hosts, url.host)) return {};
  return Error{
      ErrorKind::invalid,
      fmt::format("http://{} is not asked: what comes without TLS may be anybody's; use https, or allow it with sources.http: true", url.host)};
}

bool may_be_private(const spec::Url& url, const SourceRules& rules) {
  return rules.allow_private || has(rules.private_hosts, url.host);
}

base::Status check_redirect(const spec::Url& from, const spec::Url& to, const SourceRules& rules) {
  if (from.https && !to.https)
    return Error{ErrorKind::invalid,
                 fmt::format("{} sends from https to http://{}, which is not followed; the server must be mended, or its final address given",
                             from.host, to.host)};
  return check_url(to, rules);
}

}  // namespace thaw::node::pull
