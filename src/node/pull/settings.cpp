#include "node/pull/settings.h"

#include <algorithm>

#include "node/sandbox/files.h"
#include "spec/source_ref.h"

namespace thaw::node::pull {
namespace {

using base::Error;
using base::ErrorKind;

// MiB of memory that pulls write and hash from: all together, and each at least.
constexpr std::size_t kBlocksOfAll = 256;
constexpr std::size_t kFewestBlocks = 32;

/// Goes into a header: one word.
bool is_token(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

base::Result<std::string> hub_token(const spec::ServerConfig::Sources& sources, const std::optional<std::string>& from_environment) {
  if (sources.hub_token_file.empty()) {
    const std::string token = from_environment.value_or("");
    if (!token.empty() && !is_token(token)) return Error{ErrorKind::invalid, "HF_TOKEN is no token: it has a character that no token has"};
    return token;
  }
  auto text = read_small_file(sources.hub_token_file);
  if (!text.ok()) return text.error().within("sources.hfTokenFile");
  std::string token = *std::move(text);
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r' || token.back() == ' ')) token.pop_back();
  if (!is_token(token))
    return Error{ErrorKind::invalid, "sources.hfTokenFile: " + sources.hub_token_file + " holds no token; it should be one word in one line"};
  return token;
}

}  // namespace

base::Result<PullerOptions> puller_options(const spec::ServerConfig::Sources& sources,
                                           const std::function<std::optional<std::string>(const char*)>& environment) {
  PullerOptions options;
  options.concurrent = sources.concurrent_pulls;
  options.limits.connections = sources.connections;
  options.limits.blocks = std::clamp(kBlocksOfAll / std::max<std::size_t>(1, sources.concurrent_pulls), kFewestBlocks, Settler::kBlocks);
  options.fetch.proxy = sources.proxy;
  options.fetch.ca_file = sources.ca_file;
  options.fetch.rules.allow_http = sources.allow_http;
  options.fetch.rules.allow_private = sources.allow_private;
  options.fetch.rules.private_hosts = sources.hosts;
  THAW_ASSIGN_OR_RETURN(options.hub_token, hub_token(sources, environment("HF_TOKEN")));
  std::string endpoint = sources.hub_endpoint.empty() ? environment("HF_ENDPOINT").value_or("") : sources.hub_endpoint;
  if (endpoint.empty()) return options;
  while (endpoint.ends_with('/')) endpoint.pop_back();
  const auto url = spec::parse_url(endpoint);
  if (!url.ok()) return url.error().within(sources.hub_endpoint.empty() ? "HF_ENDPOINT" : "sources.hfEndpoint");
  options.hub_endpoint = endpoint;
  options.fetch.rules.private_hosts.push_back(url->host);
  if (!url->https) options.fetch.rules.http_hosts.push_back(url->host);
  return options;
}

}  // namespace thaw::node::pull
