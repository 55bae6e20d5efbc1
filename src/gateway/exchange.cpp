#include "gateway/exchange.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <ctime>

#include "base/revision.h"
#include "gateway/connection.h"
#include "gateway/cors.h"
#include "gateway/patience.h"
#include "gateway/server.h"

namespace thaw::gateway {
namespace {

void append_number(std::string& out, std::uint64_t number, int base = 10) {
  char text[24];
  const auto end = std::to_chars(text, text + sizeof text, number, base);
  out.append(text, static_cast<std::size_t>(end.ptr - text));
}

/// Until it is known who asks.
const std::shared_ptr<const Caller>& nobody() {
  static const std::shared_ptr<const Caller> none = std::make_shared<Caller>();
  return none;
}

}  // namespace

std::string_view http_date(base::TimePoint now) {
  thread_local char text[40] = "";
  thread_local base::TimePoint made{};
  if (text[0] == '\0' || now - made >= base::Seconds(1)) {
    const std::time_t seconds = std::time(nullptr);
    std::tm utc{};
    gmtime_r(&seconds, &utc);
    std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc);
    made = now;
  }
  return text;
}

Exchange::Exchange(Connection& connection, net::Loop& loop, net::Socket& client, net::Head& head)
    : connection_(connection), loop_(loop), client_(client), head_(head), caller_(nobody()), keep_alive_(head.keep_alive) {
  connection_.exchange_ = this;
  client_.on_hang_up([this] {
    gone_ = true;
    client_.cancel();
    if (wake_) wake_();
  });
}

Exchange::~Exchange() {
  connection_.exchange_ = nullptr;
  client_.on_hang_up(nullptr);
  if (counted_) limits_->end();
}

base::ModelName Exchange::model_named(std::string_view name) const {
  static const base::ModelName nobodys(std::string(1, base::kTenantMark));
  static constexpr char kMarks[] = {base::kTenantMark, base::kRevisionMark, '\0'};
  const bool own = tenant() == caller_->tenant;
  if (name.size() > base::kMaxModelName || name.find_first_of(kMarks) != std::string_view::npos || (own && !caller_->may_use(name))) return nobodys;
  return base::qualified(tenant().str(), name);
}

bool Exchange::sees(const base::ModelName& model) const {
  if (of_all_tenants()) return true;
  return base::tenant_part(model) == tenant().str() && (caller_->models.empty() || caller_->may_use(base::public_model(model)));
}

const std::string& Exchange::peer() const { return connection_.peer(); }

std::string_view Exchange::query(std::string_view name) const {
  std::string_view rest = head_.query();
  while (!rest.empty()) {
    const auto end = rest.find('&');
    const std::string_view pair = rest.substr(0, end);
    if (pair.substr(0, pair.find('=')) == name) {
      const auto mark = pair.find('=');
      return mark == std::string_view::npos ? std::string_view("1") : pair.substr(mark + 1);
    }
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  return {};
}

Dialect Exchange::dialect() const { return route_ == nullptr ? Dialect::openai : route_->dialect; }

bool Exchange::replace_body(std::string body) {
  if (!connection_.charge(body.size())) return false;
  connection_.decoded_body_ = std::move(body);
  body_ = connection_.decoded_body_;
  return true;
}

void Exchange::drop_request() {
  body_ = {};
  parameter_ = {};
  connection_.release_request();
}

void Exchange::write_head(std::string& out, int status, std::string_view content_type, std::optional<std::size_t> length,
                          std::string_view headers) {
  status_ = status;
  head_sent_ = true;
  out.append("HTTP/1.1 ");
  append_number(out, static_cast<std::uint64_t>(status));
  out.append(" ").append(reason_phrase(status)).append("\r\nDate: ").append(http_date(loop_.now()));
  out.append("\r\nContent-Type: ").append(content_type);
  if (length) {
    out.append("\r\nContent-Length: ");
    append_number(out, *length);
  } else if (chunked()) {
    out.append("\r\nTransfer-Encoding: chunked");
  } else {
    keep_alive_ = false;
  }
  out.append("\r\nx-request-id: ").append(id_text_);
  if (!keep_alive_) {
    out.append("\r\nConnection: close");
  } else if (head_.minor_version == 0) {
    out.append("\r\nConnection: keep-alive");
  }
  out.append("\r\n");
  if (!cors_origin_.empty()) append_cors(out, cors_origin_);
  out.append(headers);
  if (limits_) limits_->append_headers(out, loop_.now());
  out.append("\r\n");
}

void Exchange::begin_stream(std::string& head, int status, std::string_view content_type, std::string_view headers) {
  write_head(head, status, content_type, std::nullopt, headers);
}

bool Exchange::send_now(std::string_view first, std::string_view second) {
  if (gone_) return true;
  ssize_t sent = 0;
  if (unsent_.empty()) {
    const std::array<iovec, 2> parts{iovec{const_cast<char*>(first.data()), first.size()},
                                     iovec{const_cast<char*>(second.data()), second.size()}};
    sent = client_.try_write({parts.data(), second.empty() ? 1U : 2U});
    if (sent < 0 && sent != -EAGAIN) {
      gone_ = true;
      return true;
    }
    if (sent == -EAGAIN) sent = 0;
  }
  auto skip = static_cast<std::size_t>(sent);
  if (skip == first.size() + second.size()) return true;
  if (skip < first.size()) unsent_.append(first.substr(skip));
  skip = skip > first.size() ? skip - first.size() : 0;
  unsent_.append(second.substr(skip));
  return false;
}

net::Task<void> Exchange::flush() {
  std::string_view rest = unsent_;
  const Patience patience(loop_.now(), connection_.min_rate());
  while (!rest.empty() && !gone_) {
    client_.set_deadline(patience.deadline(loop_.now(), unsent_.size() - rest.size()));
    if (const int error = co_await client_.writable(); error != 0) {
      gone_ = true;
      break;
    }
    const iovec part{const_cast<char*>(rest.data()), rest.size()};
    const ssize_t count = client_.try_write({&part, 1});
    if (count > 0) rest.remove_prefix(static_cast<std::size_t>(count));
    if (count < 0 && count != -EAGAIN) gone_ = true;
  }
  client_.clear_deadline();
  unsent_ = {};
}

net::Task<void> Exchange::send(std::string_view data) {
  if (!send_now(data)) co_await flush();
}

net::Task<void> Exchange::respond(int status, std::string_view content_type, std::string_view body, std::string_view headers) {
  if (audited_) {
    if (const auto lost = co_await connection_.server_.audit_trail().settle(*this, status)) {
      co_await respond_error(*lost);
      co_return;
    }
  }
  std::string head;
  head.reserve(384);
  write_head(head, status, content_type, body.size(), headers);
  const bool bodiless = head_.method == "HEAD";
  if (!send_now(head, bodiless ? std::string_view{} : body)) co_await flush();
}

net::Task<void> Exchange::respond_error(const ApiError& error) {
  if (audited_) audited_->detail = error.code;
  const std::string body = error.json(dialect(), id_text_);
  const std::string headers = error.headers();
  co_await respond(error.status, "application/json", body, headers);
}

net::Task<void> Exchange::send_chunk(std::string_view data) {
  if (data.empty()) co_return;
  if (!chunked()) {
    co_await send(data);
    co_return;
  }
  std::string chunk;
  append_number(chunk, data.size(), 16);
  chunk.append("\r\n").append(data).append("\r\n");
  co_await send(chunk);
}

net::Task<void> Exchange::end_stream() {
  if (chunked()) co_await send("0\r\n\r\n");
}

void Exchange::abort() {
  keep_alive_ = false;
  client_.reset_on_close();
}

}  // namespace thaw::gateway
