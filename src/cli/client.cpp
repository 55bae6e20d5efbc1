#include "cli/client.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <system_error>

#include <curl/curl.h>
#include <fmt/format.h>
#include <boost/json.hpp>

#include "base/units.h"
#include "base/version.h"
#include "net/curl_handles.h"

namespace thaw::cli {
namespace {

using base::Error;
using base::ErrorKind;

constexpr int kTick_ms = 100;
constexpr long kKeepaliveIdle_s = 30;
constexpr std::size_t kMaxErrorBytes = 1 << 20;

using Easy = net::CurlEasy;
using Multi = net::CurlMulti;
using List = net::CurlList;

/// A proxy from the environment can never reach this machine's own loopback.
bool is_loopback(const std::string& url) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parsed(curl_url(), &curl_url_cleanup);
  if (curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) return false;
  char* text = nullptr;
  if (curl_url_get(parsed.get(), CURLUPART_HOST, &text, 0) != CURLUE_OK) return false;
  const std::unique_ptr<char, decltype(&curl_free)> owned(text, &curl_free);
  const std::string_view host(text);
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

/// One request on one connection.
class Transfer {
 public:
  Transfer(const Credentials& credentials, const HttpRequest& request, const StreamHandler* handler);
  base::Result<StreamOutcome> run();

 private:
  void prepare();
  [[nodiscard]] Error describe(CURLcode code) const;
  [[nodiscard]] Error describe_status() const;
  base::Status take_body(std::string_view bytes);
  void take_header(std::string_view line);
  [[nodiscard]] bool succeeded() const { return response_.status >= 200 && response_.status < 300; }

  const Credentials& credentials_;
  const HttpRequest& request_;
  const StreamHandler* handler_;  ///< null: the body is kept
  std::string url_;
  List headers_;
  Easy easy_;
  Multi multi_;  // goes before easy_, as libcurl wants it; run() takes the handle out first
  HttpResponse response_;
  std::optional<Error> refused_;  ///< why take_body stopped the transfer
};

Transfer::Transfer(const Credentials& credentials, const HttpRequest& request, const StreamHandler* handler)
    : credentials_(credentials), request_(request), handler_(handler), url_(credentials.url + request.path) {
  net::initialise_curl();
  easy_.reset(curl_easy_init());
  multi_.reset(curl_multi_init());
}

void Transfer::prepare() {
  CURL* easy = easy_.get();
  const auto add_header = [this](const std::string& header) {
    if (curl_slist* longer = curl_slist_append(headers_.get(), header.c_str())) {
      (void)headers_.release();
      headers_.reset(longer);
    }
  };
  if (!credentials_.api_key.empty()) add_header("Authorization: Bearer " + credentials_.api_key);
  add_header("Expect:");  // no extra round trip before a body
  if (!request_.body.empty()) {
    add_header("Content-Type: application/json");
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request_.body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request_.body.c_str());
  } else if (request_.method == "POST") {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, 0L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "");
  }
  curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request_.method.c_str());
  curl_easy_setopt(easy, CURLOPT_URL, url_.c_str());
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);  // a model named ".." is a name, not a way out
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  if (is_loopback(credentials_.url)) curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_.get());
  curl_easy_setopt(easy, CURLOPT_USERAGENT, (std::string("thaw/") + base::kVersion).c_str());
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, static_cast<long>(base::to_s(Client::kConnectTimeout)));
  if (handler_ == nullptr) {
    curl_easy_setopt(easy, CURLOPT_TIMEOUT, static_cast<long>(base::to_s(Client::kCallTimeout)));
  } else {
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, kKeepaliveIdle_s);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, kKeepaliveIdle_s);
  }

  curl_write_callback on_body = [](char* bytes, std::size_t size, std::size_t count, void* self) -> std::size_t {
    auto* transfer = static_cast<Transfer*>(self);
    const base::Status status = transfer->take_body({bytes, size * count});
    if (status.ok()) return size * count;
    transfer->refused_ = status.error();
    return 0;
  };
  curl_write_callback on_header = [](char* bytes, std::size_t size, std::size_t count, void* self) -> std::size_t {
    static_cast<Transfer*>(self)->take_header({bytes, size * count});
    return size * count;
  };
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, static_cast<void*>(this));
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, static_cast<void*>(this));
}

base::Result<StreamOutcome> Transfer::run() {
  if (!easy_ || !multi_) return Error{ErrorKind::internal, "cannot set up an HTTP client: out of memory"};
  prepare();
  curl_multi_add_handle(multi_.get(), easy_.get());
  bool interrupted = false;
  int running = 1;
  CURLMcode trouble = CURLM_OK;
  while (!interrupted && trouble == CURLM_OK) {
    trouble = curl_multi_perform(multi_.get(), &running);
    if (running == 0 || trouble != CURLM_OK) break;
    curl_waitfd interrupt{handler_ == nullptr ? -1 : handler_->interrupt_fd, CURL_WAIT_POLLIN, 0};
    trouble = curl_multi_poll(multi_.get(), &interrupt, interrupt.fd >= 0 ? 1 : 0, kTick_ms, nullptr);
    interrupted = interrupt.revents != 0;
    if (handler_ != nullptr && handler_->on_tick && !interrupted) handler_->on_tick();
  }

  CURLcode code = CURLE_FAILED_INIT;
  int messages = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &messages))
    if (message->msg == CURLMSG_DONE) code = message->data.result;
  curl_multi_remove_handle(multi_.get(), easy_.get());  // closes the connection of an unfinished transfer

  if (interrupted) return StreamOutcome{StreamEnd::interrupted, std::move(response_)};
  if (trouble != CURLM_OK)
    return Error{ErrorKind::internal, fmt::format("HTTP client: {}", curl_multi_strerror(trouble))};
  if (refused_) return *refused_;
  if (code != CURLE_OK) return describe(code);
  if (!succeeded()) return describe_status();
  return StreamOutcome{StreamEnd::complete, std::move(response_)};
}

void Transfer::take_header(std::string_view line) {
  if (line.starts_with("HTTP/")) {  // also a 100 Continue's; the last one counts
    const std::size_t space = line.find(' ');
    response_.status = space == std::string_view::npos ? 0 : std::atoi(std::string(line.substr(space + 1, 3)).c_str());
    return;
  }
  constexpr std::string_view name = "x-request-id:";
  if (line.size() < name.size() || !curl_strnequal(line.data(), name.data(), name.size())) return;
  line.remove_prefix(name.size());
  const std::size_t first = line.find_first_not_of(" \t\r\n");
  const std::size_t last = line.find_last_not_of(" \t\r\n");
  if (first != std::string_view::npos) response_.request_id = line.substr(first, last - first + 1);
}

base::Status Transfer::take_body(std::string_view bytes) {
  if (handler_ != nullptr && succeeded()) return handler_->on_data(bytes);
  const std::size_t limit = succeeded() ? Client::kMaxBodyBytes : kMaxErrorBytes;
  if (response_.body.size() + bytes.size() > limit)
    return Error{ErrorKind::internal,
                 fmt::format("the answer of {} is longer than {}", url_, base::format_bytes(limit))};
  response_.body += bytes;
  return {};
}

Error Transfer::describe(CURLcode code) const {
  const std::string& url = credentials_.url;
  const std::string remedy = "start it with `thaw serve` or set THAW_URL";
  switch (code) {
    case CURLE_COULDNT_CONNECT: {
      long number = 0;
      curl_easy_getinfo(easy_.get(), CURLINFO_OS_ERRNO, &number);
      std::string reason = number != 0 ? std::generic_category().message(static_cast<int>(number)) : "no connection";
      reason.front() = static_cast<char>(std::tolower(static_cast<unsigned char>(reason.front())));
      return {ErrorKind::unavailable, fmt::format("cannot reach thaw at {}: {}; {}", url, reason, remedy)};
    }
    case CURLE_COULDNT_RESOLVE_HOST:
      return {ErrorKind::unavailable, fmt::format("cannot reach thaw at {}: unknown host; set THAW_URL", url)};
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return {ErrorKind::invalid, fmt::format("\"{}\" is no URL of a server; set THAW_URL like {}", url, kDefaultUrl)};
    case CURLE_OPERATION_TIMEDOUT: {
      curl_off_t connected_us = 0;
      curl_easy_getinfo(easy_.get(), CURLINFO_CONNECT_TIME_T, &connected_us);
      if (connected_us == 0)
        return {ErrorKind::unavailable, fmt::format("cannot reach thaw at {}: no answer within {}; {}", url,
                                                    base::format_duration(Client::kConnectTimeout), remedy)};
      return {ErrorKind::timeout,
              fmt::format("thaw at {} did not answer {} {} within {}; see the server's log", url, request_.method,
                          request_.path, base::format_duration(Client::kCallTimeout))};
    }
    default:
      return {ErrorKind::io, fmt::format("the connection to thaw at {} broke off: {}; see the server's log", url,
                                         curl_easy_strerror(code))};
  }
}

ErrorKind kind_of_status(int status) {
  switch (status) {
    case 400:
    case 413:
    case 422:
      return ErrorKind::invalid;
    case 401:
    case 403:
      return ErrorKind::denied;
    case 404:
      return ErrorKind::not_found;
    case 408:
    case 504:
      return ErrorKind::timeout;
    case 409:
      return ErrorKind::conflict;
    case 429:
    case 503:
      return ErrorKind::exhausted;
    default:
      return ErrorKind::internal;
  }
}

/// What the server's error object says; empty when the body is none.
std::string error_message(std::string_view body) {
  boost::json::error_code error;
  const boost::json::value document = boost::json::parse(body, error);
  if (error || !document.is_object()) return {};
  const auto* object = document.as_object().if_contains("error");
  if (object == nullptr || !object->is_object()) return {};
  const auto* message = object->as_object().if_contains("message");
  return message != nullptr && message->is_string() ? std::string(message->as_string()) : std::string();
}

Error Transfer::describe_status() const {
  const ErrorKind kind = kind_of_status(response_.status);
  std::string message = error_message(response_.body);
  if (message.empty())
    return {ErrorKind::internal,
            fmt::format("{} answered {} {} with HTTP {} and no error message; is it a thaw server? Set THAW_URL",
                        credentials_.url, request_.method, request_.path, response_.status)};
  if (response_.status == 401) message += "; set THAW_API_KEY to a key of the server at " + credentials_.url;
  return {kind, message};
}

}  // namespace

HttpRequest Client::addressed(const HttpRequest& request) const {
  HttpRequest whole = request;
  if (!tenant_.empty()) whole.path += (whole.path.find('?') == std::string::npos ? "?tenant=" : "&tenant=") + percent_encode(tenant_);
  return whole;
}

base::Result<HttpResponse> Client::send(const HttpRequest& request) const {
  const HttpRequest whole = addressed(request);
  THAW_ASSIGN_OR_RETURN(StreamOutcome outcome, Transfer(credentials_, whole, nullptr).run());
  return std::move(outcome.response);
}

base::Result<StreamOutcome> Client::stream(const HttpRequest& request, const StreamHandler& handler) const {
  const HttpRequest whole = addressed(request);
  return Transfer(credentials_, whole, &handler).run();
}

std::string percent_encode(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::strchr("-._~", c) != nullptr;
    if (plain && c != '\0') {
      encoded.push_back(c);
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

}  // namespace thaw::cli
