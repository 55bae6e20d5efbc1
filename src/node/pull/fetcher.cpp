#include "node/pull/fetcher.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include <curl/curl.h>
#include <fmt/format.h>

#include "base/units.h"
#include "base/version.h"
#include "net/curl_handles.h"
#include "node/pull/address_rule.h"

namespace thaw::node::pull {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::size_t kMaxSaid = 300;
constexpr long kReceiveBytes = 512L << 10;  // the largest that libcurl takes

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/// Whether another try may end otherwise.
bool passes(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
      return true;
    default:
      return false;
  }
}

}  // namespace

struct Transfer::State {
  net::CurlEasy easy;
  net::CurlList headers;
  CURLM* multi = nullptr;  ///< that it is in
  const FetchSettings* settings = nullptr;
  Order order;
  Handlers handlers;
  spec::Url at;  ///< who is being asked
  std::string at_text;
  Answer answer;
  std::string redirected_to;
  std::uint32_t redirects = 0;
  bool head_seen = false;
  bool ended_by_us = false;
  std::string refused_address;  ///< of a connection that was not made

  base::Status prepare();
  void leave() {
    if (multi != nullptr) curl_multi_remove_handle(multi, easy.get());
    multi = nullptr;
  }
  void take_header(std::string_view line);
  bool head_complete();
  bool take_body(std::string_view bytes);
  curl_socket_t open_socket(const curl_sockaddr& address);
  [[nodiscard]] Trouble describe(CURLcode code) const;
};

Transfer::Transfer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Transfer::~Transfer() {
  state_->leave();
}

base::Status Transfer::State::prepare() {
  THAW_ASSIGN_OR_RETURN(at, spec::parse_url(at_text));
  THAW_RETURN_IF_ERROR(check_url(at, settings->rules));
  answer = {};
  answer.url = at_text;
  redirected_to.clear();
  head_seen = false;
  refused_address.clear();
  CURL* const curl = easy.get();
  curl_easy_reset(curl);
  headers.reset();
  const auto add_header = [this](const std::string& header) {
    if (curl_slist* longer = curl_slist_append(headers.get(), header.c_str())) {
      (void)headers.release();
      headers.reset(longer);
    }
  };
  add_header("Accept-Encoding: identity");  // bytes are counted
  const auto origin = spec::parse_url(order.url);
  if (!order.bearer.empty() && origin.ok() && origin->same_origin(at)) add_header("Authorization: Bearer " + order.bearer);
  if (order.range) {
    curl_easy_setopt(curl, CURLOPT_RANGE, fmt::format("{}-{}", order.range->begin, order.range->end - 1).c_str());
    if (!order.if_range.empty()) add_header("If-Range: " + order.if_range);
  }
  curl_easy_setopt(curl, CURLOPT_URL, at_text.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);  // ranges in parallel are to be connections of their own
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);                   // done here, by our rules
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, (std::string("thaw/") + base::kVersion).c_str());
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, kReceiveBytes);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(base::to_ms(settings->connect_timeout)));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, std::max(1L, static_cast<long>(base::to_s(settings->stall_timeout))));
  curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(curl, CURLOPT_PROXY, settings->proxy.c_str());  // "": none of the environment either
  if (!settings->ca_file.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, settings->ca_file.c_str());

  curl_write_callback on_body = [](char* bytes, std::size_t size, std::size_t count, void* self) -> std::size_t {
    return static_cast<State*>(self)->take_body({bytes, size * count}) ? size * count : 0;
  };
  curl_write_callback on_header = [](char* bytes, std::size_t size, std::size_t count, void* self) -> std::size_t {
    auto* state = static_cast<State*>(self);
    const std::string_view line(bytes, size * count);
    if (!trimmed(line).empty()) {
      state->take_header(line);
      return line.size();
    }
    return state->answer.status < 200 || state->head_complete() ? line.size() : 0;  // after a 100 another head follows
  };
  curl_opensocket_callback open = [](void* self, curlsocktype /*purpose*/, curl_sockaddr* address) {
    return static_cast<State*>(self)->open_socket(*address);
  };
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, static_cast<void*>(this));
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, static_cast<void*>(this));
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open);
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, static_cast<void*>(this));
  curl_easy_setopt(curl, CURLOPT_PRIVATE, static_cast<void*>(this));
  return {};
}

/// The very address that is about to be connected to: what a name was said to be a moment ago does not count.
curl_socket_t Transfer::State::open_socket(const curl_sockaddr& address) {
  if (settings->proxy.empty() && !may_be_private(at, settings->rules) && !is_public(address.addr)) {
    refused_address = format_address(address.addr);
    return CURL_SOCKET_BAD;
  }
  return ::socket(address.family, address.socktype | SOCK_CLOEXEC, address.protocol);
}

void Transfer::State::take_header(std::string_view line) {
  if (line.starts_with("HTTP/")) {
    const std::string url = std::move(answer.url);
    answer = {};
    answer.url = url;
    const auto space = line.find(' ');
    if (space != std::string_view::npos) answer.status = std::atoi(std::string(line.substr(space + 1, 3)).c_str());
    return;
  }
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return;
  const std::string_view name = line.substr(0, colon);
  const std::string_view value = trimmed(line.substr(colon + 1));
  const auto is = [name](std::string_view wanted) {
    return name.size() == wanted.size() && curl_strnequal(name.data(), wanted.data(), wanted.size()) != 0;
  };
  if (is("content-length")) {
    std::uint64_t length = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
    if (error == std::errc() && end == value.data() + value.size()) answer.content_length = length;
  } else if (is("content-range")) {
    answer.content_range = value;
  } else if (is("content-type")) {
    answer.content_type = value;
  } else if (is("etag")) {
    answer.etag = strong_etag(value);
  } else if (is("retry-after")) {
    answer.retry_after = parse_retry_after(value);
  } else if (is("x-error-message")) {
    answer.error_message.clear();
    for (const char c : value.substr(0, kMaxSaid))  // it is shown on terminals
      if (static_cast<unsigned char>(c) >= ' ' && c != '\x7f') answer.error_message += c;
  }
}

bool Transfer::State::head_complete() {
  head_seen = true;
  if (is_redirect(answer.status)) return true;
  ended_by_us = !handlers.on_head(answer);
  return !ended_by_us;
}

bool Transfer::State::take_body(std::string_view bytes) {
  if (is_redirect(answer.status)) return true;
  ended_by_us = !handlers.on_body(bytes);
  return !ended_by_us;
}

Trouble Transfer::State::describe(CURLcode code) const {
  const std::string host = at.host;
  if (!refused_address.empty())
    return {{ErrorKind::denied,
             fmt::format("{} is at {}, an address of a private network, and those are not asked; if it is meant, allow it with sources.hosts: [{}] "
                         "in the server's configuration",
                         host, refused_address, host)},
            false};
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return {{ErrorKind::unavailable, fmt::format("{} is an unknown host, or names cannot be resolved here", host)}, true};
    case CURLE_COULDNT_RESOLVE_PROXY:
      return {{ErrorKind::unavailable, fmt::format("the proxy {} is an unknown host; see sources.proxy", settings->proxy)}, false};
    case CURLE_COULDNT_CONNECT:
      return {{ErrorKind::unavailable, fmt::format("cannot connect to {}:{}", host, at.port)}, true};
    case CURLE_OPERATION_TIMEDOUT:
      return {{ErrorKind::timeout, head_seen ? fmt::format("{} sent nothing for {}", host, base::format_duration(settings->stall_timeout))
                                             : fmt::format("{} does not answer", host)},
              true};
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return {
          {ErrorKind::denied, fmt::format("the certificate of {} is not trusted here ({}); if it is your own, name its authority in sources.caFile",
                                          host, curl_easy_strerror(code))},
          false};
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
      return {{ErrorKind::unavailable, fmt::format("{} broke the connection off", host)}, true};
    default:
      return {{passes(code) ? ErrorKind::unavailable : ErrorKind::io, fmt::format("{}: {}", host, curl_easy_strerror(code))}, passes(code)};
  }
}

struct Fetcher::Impl {
  FetchSettings settings;
  net::CurlMulti multi;

  /// Goes on to where it was sent, or says why not.
  std::optional<Trouble> follow(Transfer::State& state);
  void ended(Transfer::State& state, CURLcode code);
};

Fetcher::Fetcher(FetchSettings settings) : impl_(std::make_unique<Impl>()) {
  net::initialise_curl();
  impl_->settings = std::move(settings);
  impl_->multi.reset(curl_multi_init());
}
Fetcher::~Fetcher() = default;

std::unique_ptr<Transfer> Fetcher::begin(Order order, Transfer::Handlers handlers) {
  auto state = std::make_unique<Transfer::State>();
  state->easy.reset(curl_easy_init());
  state->settings = &impl_->settings;
  state->at_text = order.url;
  state->order = std::move(order);
  state->handlers = std::move(handlers);
  std::unique_ptr<Transfer> transfer(new Transfer(std::move(state)));
  Transfer::State& begun = *transfer->state_;
  if (const base::Status ready = begun.prepare(); !ready.ok()) {
    begun.handlers.on_end(Trouble{ready.error(), false});
    return transfer;
  }
  begun.multi = impl_->multi.get();
  curl_multi_add_handle(begun.multi, begun.easy.get());
  return transfer;
}

std::optional<Trouble> Fetcher::Impl::follow(Transfer::State& state) {
  char* text = nullptr;
  curl_easy_getinfo(state.easy.get(), CURLINFO_REDIRECT_URL, &text);
  const std::string next = text == nullptr ? "" : text;
  const auto refuse = [&](const std::string& why) { return Trouble{{ErrorKind::invalid, fmt::format("{} sends on {}", state.at.host, why)}, false}; };
  if (next.empty()) return refuse("without saying where to; the server must be mended");
  if (++state.redirects > settings.max_redirects) return refuse(fmt::format("more than {} times; the server must be mended", settings.max_redirects));
  const auto to = spec::parse_url(next);
  if (!to.ok()) return refuse("to what cannot be fetched: " + to.error().message);
  if (const base::Status allowed = check_redirect(state.at, *to, settings.rules); !allowed.ok()) return Trouble{allowed.error(), false};
  state.at_text = next;
  if (const base::Status ready = state.prepare(); !ready.ok()) return Trouble{ready.error(), false};
  state.multi = multi.get();
  curl_multi_add_handle(state.multi, state.easy.get());
  return std::nullopt;
}

void Fetcher::Impl::ended(Transfer::State& state, CURLcode code) {
  state.leave();
  if (state.ended_by_us) return state.handlers.on_end(std::nullopt);
  if (code == CURLE_OK && is_redirect(state.answer.status)) {
    if (auto trouble = follow(state)) state.handlers.on_end(std::move(trouble));
    return;
  }
  if (code != CURLE_OK) return state.handlers.on_end(state.describe(code));
  state.handlers.on_end(std::nullopt);
}

void Fetcher::step(base::Duration at_most) {
  int running = 0;
  curl_multi_perform(impl_->multi.get(), &running);
  int left = 0;
  bool any = false;
  while (const CURLMsg* message = curl_multi_info_read(impl_->multi.get(), &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    char* self = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &self);
    impl_->ended(*reinterpret_cast<Transfer::State*>(self), code);
    any = true;
  }
  if (any) return;
  curl_multi_poll(impl_->multi.get(), nullptr, 0, static_cast<int>(base::to_ms(at_most)), nullptr);
}

void Fetcher::wake() {
  curl_multi_wakeup(impl_->multi.get());
}

}  // namespace thaw::node::pull
