#pragma once

#include <optional>
#include <string>

#include "audit/audit_log.h"
#include "base/time.h"
#include "gateway/api_error.h"
#include "gateway/exchange.h"
#include "net/loop.h"
#include "net/task.h"

namespace thaw::gateway {

/// Brings what the gateway does into the audit log: acts of the admin API before they are carried out and again before
/// they are answered, and refusals. Inference with a valid key never comes here. Loop thread only; the loop goes on
/// while the disk is waited for.
class AuditTrail {
 public:
  /// Refusals recorded one by one in a second; what is beyond is counted and recorded as one: who hammers at the door
  /// must not fill the disk.
  static constexpr std::uint32_t kRefusalsASecond = 50;

  /// `reads`: also what was read by the admin API. `dev`: nobody is asked for a key.
  AuditTrail(net::Loop& loop, audit::AuditLog& log, bool reads, bool dev);

  void set_reads(bool reads) { reads_ = reads; }

  /// Before the handler of a route with an action runs. The error is the answer: an act that cannot be recorded is not
  /// carried out.
  net::Task<std::optional<ApiError>> begin(Exchange& exchange);

  /// Before the answer (of a stream: after it). The error is to be answered instead: the act was carried out, but that
  /// is not on record.
  net::Task<std::optional<ApiError>> settle(Exchange& exchange, int status);

  /// Before somebody who did not get as far as a handler is told so. Of no effect for what is no refusal: see
  /// is_refusal().
  net::Task<void> refused(Exchange& exchange, const ApiError& error);

 private:
  struct Write;
  audit::Record describe(const Exchange& exchange) const;
  bool take_budget();
  void tell_suppressed();

  net::Loop& loop_;
  audit::AuditLog& log_;
  bool reads_;
  bool dev_;
  base::TimePoint second_{};  ///< the one that budget_left_ is for
  std::uint32_t budget_left_ = 0;
  std::uint64_t suppressed_ = 0;
  std::string suppressed_from_;  ///< the last address
  net::Timer suppressed_timer_;
};

/// 401 and 403 anywhere, 404 and 405 in the admin API.
bool is_refusal(int status, std::string_view path);

}  // namespace thaw::gateway
