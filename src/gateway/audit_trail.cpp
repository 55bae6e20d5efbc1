#include "gateway/audit_trail.h"

#include <coroutine>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "gateway/routes.h"
#include "store/api_key.h"

namespace thaw::gateway {
namespace {

constexpr std::string_view kAdminPrefix = "/admin/";
constexpr std::string_view kOperator = "default";  ///< the tenant of who runs the server
constexpr std::size_t kMaxHashedBytes = 1U << 20U;  // more would hold the loop up
constexpr std::size_t kMaxQueryBytes = 128;

ApiError unwritable(std::string message) {
  return {503, "server_error", "audit_unavailable", std::move(message), {}, base::Seconds(5)};
}

/// No 503, which would have a client do it again.
ApiError done_unrecorded(int status, const base::Error& error) {
  return {500,
          "server_error",
          "audit_incomplete",
          fmt::format("the act was carried out (its answer was {}), but the audit log could not be written since: {}; "
                      "only its beginning is on record",
                      status, error.message),
          {},
          {}};
}

/// What was asked for, without saying it: a digest of the body, and the query (which holds no secrets in this API).
std::string describe_request(const Exchange& exchange) {
  std::string detail;
  if (const std::string_view query = exchange.head().query(); !query.empty())
    detail = fmt::format("?{}", query.substr(0, kMaxQueryBytes));
  const std::string_view body = exchange.body();
  if (body.empty()) return detail;
  if (!detail.empty()) detail += ' ';
  return detail +
         (body.size() > kMaxHashedBytes ? fmt::format("{} bytes", body.size()) : "sha256:" + audit::sha256_hex(body));
}

/// The key whose id was sent: not who it was, but which key to look after. "" when none can be read.
std::string claimed_key(const net::Head& head) {
  std::string_view sent;
  if (const auto authorization = head.find("authorization"); authorization && authorization->size() > 7)
    sent = authorization->substr(7);
  else if (const auto key = head.find("x-api-key"))
    sent = *key;
  const auto parts = store::split_key(sent);
  return parts.ok() ? fmt::format(", sent as key:{}", parts->id.value()) : "";
}

std::string who(const Caller& caller, bool dev) {
  const std::string of = caller.tenant.str() == base::kDefaultTenant ? "" : "@" + caller.tenant.str();
  if (caller.key) return fmt::format("key:{}{}", caller.key.value(), of);
  if (!caller.subject.empty()) return fmt::format("{}:{}{}", caller.certificate ? "cert" : "token", caller.subject, of);
  return dev ? "dev" : "unknown";
}

}  // namespace

bool is_refusal(int status, std::string_view path) {
  if (status == 401 || status == 403) return true;
  return (status == 404 || status == 405) && path.starts_with(kAdminPrefix);
}

/// co_await Write{...}: on the loop again when the record is durable, or cannot be.
struct AuditTrail::Write {
  net::Loop& loop;
  audit::AuditLog& log;
  audit::Record record;
  base::Status status = {};

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    log.append(std::move(record), [this, handle](base::Status result) {
      status = std::move(result);
      loop.post([handle] { handle.resume(); });
    });
  }
  base::Status await_resume() { return std::move(status); }
};

AuditTrail::AuditTrail(net::Loop& loop, audit::AuditLog& log, bool reads, bool dev)
    : loop_(loop), log_(log), reads_(reads), dev_(dev), suppressed_timer_(loop, [this] { tell_suppressed(); }) {}

audit::Record AuditTrail::describe(const Exchange& exchange) const {
  audit::Record record;
  const Route* const route = exchange.route();
  record.action = route != nullptr ? std::string(route->action) : "";
  record.who = who(exchange.caller(), dev_);
  record.from = exchange.peer();
  // The operators' own callers are not sealed: who looks after the log must know them.
  if (const std::string& tenant = exchange.caller().tenant.str(); exchange.caller().key && tenant != kOperator) record.private_to = tenant;
  record.method = std::string(exchange.head().method);
  record.route = std::string(route != nullptr ? route->pattern : exchange.head().path());
  std::string_view subject;
  if (route != nullptr) matches(route->pattern, exchange.head().path(), subject);
  // Of the operator's own tenant things have their bare names.
  if (exchange.tenant().str() != base::kDefaultTenant) record.subject = exchange.tenant().str() + "/";
  record.subject += subject;
  record.request = std::string(exchange.id_text());
  return record;
}

net::Task<std::optional<ApiError>> AuditTrail::begin(Exchange& exchange) {
  audit::Record record = describe(exchange);
  if (exchange.route()->is_act()) {
    record.event = audit::Event::begun;
    record.detail = describe_request(exchange);
    Write write{loop_, log_, record};
    const base::Status written = co_await write;
    if (!written.ok())
      co_return unwritable("administrative acts are refused while the audit log cannot be written: " +
                           written.error().message + "; free space or mend it and try again (inference goes on)");
    record.detail.clear();
  }
  exchange.audit(std::move(record));
  co_return std::nullopt;
}

net::Task<std::optional<ApiError>> AuditTrail::settle(Exchange& exchange, int status) {
  const std::unique_ptr<audit::Record> record = exchange.take_audited();
  const bool act = exchange.route()->is_act();
  const bool refusal = status == 401 || status == 403 || status == 404;
  if (!act && !refusal && !reads_) co_return std::nullopt;
  if (!act && refusal && !take_budget()) co_return std::nullopt;
  record->event = act || !refusal ? audit::Event::done : audit::Event::refused;
  record->status = static_cast<std::uint32_t>(status);
  Write write{loop_, log_, std::move(*record)};
  const base::Status written = co_await write;
  if (written.ok() || !act) co_return std::nullopt;
  co_return done_unrecorded(status, written.error());
}

net::Task<void> AuditTrail::refused(Exchange& exchange, const ApiError& error) {
  if (!is_refusal(error.status, exchange.head().path())) co_return;
  if (!take_budget()) {
    suppressed_from_ = exchange.peer();
    co_return;
  }
  audit::Record record = describe(exchange);
  if (record.action.empty()) record.action = "access";
  record.event = audit::Event::refused;
  record.status = static_cast<std::uint32_t>(error.status);
  record.detail = error.code + (error.status == 401 ? claimed_key(exchange.head()) : "");
  Write write{loop_, log_, std::move(record)};
  (void)co_await write;  // refused also when it cannot be written: the log says how many those were
}

bool AuditTrail::take_budget() {
  if (loop_.now() - second_ >= base::Seconds(1)) {
    second_ = loop_.now();
    budget_left_ = kRefusalsASecond;
  }
  if (budget_left_ > 0) {
    --budget_left_;
    return true;
  }
  if (++suppressed_ == 1) suppressed_timer_.arm(loop_.now() + base::Seconds(1));
  return false;
}

void AuditTrail::tell_suppressed() {
  audit::Record record;
  record.event = audit::Event::refused;
  record.action = "access.many";
  record.who = "unknown";
  record.from = suppressed_from_;
  record.detail =
      fmt::format("{} more refusals within a second are not recorded one by one; the address is the last one's",
                  std::exchange(suppressed_, 0));
  log_.append(std::move(record), nullptr);
}

}  // namespace thaw::gateway
