#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "audit/record.h"
#include "base/ids.h"
#include "base/time.h"
#include "gateway/api_error.h"
#include "gateway/caller.h"
#include "gateway/tenant_account.h"
#include "net/http.h"
#include "net/socket.h"
#include "net/task.h"

namespace thaw::gateway {

class Connection;
struct Route;

/// One request and its answer on a client's connection. Belongs to the connection's coroutine; handlers get it by reference and must have
/// answered when they return. Sending never fails loudly: a client that went away makes gone() true and swallows the rest.
class Exchange {
 public:
  Exchange(Connection& connection, net::Loop& loop, net::Socket& client, net::Head& head);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // --- the request. Views are good until drop_request().
  [[nodiscard]] const net::Head& head() const { return head_; }
  [[nodiscard]] std::string_view body() const { return body_; }
  [[nodiscard]] base::RequestId id() const { return id_; }
  [[nodiscard]] std::string_view id_text() const { return id_text_; }
  [[nodiscard]] const Caller& caller() const { return *caller_; }
  /// Whose things the request is about.
  [[nodiscard]] const base::TenantName& tenant() const { return named_tenant_ ? *named_tenant_ : caller_->tenant; }
  /// All tenants' are shown: a caller of the platform that named none.
  [[nodiscard]] bool of_all_tenants() const { return caller_->platform && !named_tenant_; }
  /// A model of which all is asked in the caller's words; of another tenant, or beyond what its key is good for: a name that nobody has, so that
  /// it goes the way of an unknown one.
  [[nodiscard]] base::ModelName model_named(std::string_view name) const;
  [[nodiscard]] base::ModelName model() const { return model_named(parameter_); }
  /// Whether lists may show the caller what belongs to a model.
  [[nodiscard]] bool sees(const base::ModelName& model) const;
  [[nodiscard]] base::TimePoint arrived() const { return arrived_; }
  /// The part of the path that the route's * stands for.
  [[nodiscard]] std::string_view parameter() const { return parameter_; }
  [[nodiscard]] const Route* route() const { return route_; }  ///< nullptr: there is none
  [[nodiscard]] Dialect dialect() const;
  [[nodiscard]] const std::string& peer() const;               ///< the client's address
  /// "1" of "?follow=1"; empty if absent.
  [[nodiscard]] std::string_view query(std::string_view name) const;
  /// The body is another one from here on. False: there is no room for it among what is buffered.
  [[nodiscard]] bool replace_body(std::string body);
  /// The request will not be read again: a long stream need not hold it.
  void drop_request();

  /// What the answer took, as far as the engine says.
  void charge_tokens(std::uint64_t tokens) {
    if (limits_) limits_->charge_tokens(tokens, loop_.now());
  }

  // --- the audit log
  /// What respond() brings into the audit log before it answers.
  void audit(audit::Record record) { audited_ = std::make_unique<audit::Record>(std::move(record)); }
  [[nodiscard]] std::unique_ptr<audit::Record> take_audited() { return std::move(audited_); }
  [[nodiscard]] bool audited() const { return audited_ != nullptr; }
  /// What the act is done to, when the path does not say so.
  void audit_subject(std::string subject) {
    if (audited_) audited_->subject = std::move(subject);
  }

  // --- the client
  [[nodiscard]] bool gone() const { return gone_ || client_.hung_up(); }
  /// Called when the client leaves while the handler waits for something else. One at a time; nullptr to stop.
  void when_gone(std::function<void()> wake) { wake_ = std::move(wake); }

  // --- the answer
  net::Task<void> respond(int status, std::string_view content_type, std::string_view body, std::string_view headers = {});
  net::Task<void> respond_error(const ApiError& error);
  /// Starts a chunked answer (for an HTTP/1.0 client: one that ends with the connection).
  void begin_stream(std::string& head, int status, std::string_view content_type, std::string_view headers);
  [[nodiscard]] bool head_sent() const { return head_sent_; }
  [[nodiscard]] int status() const { return status_; }
  [[nodiscard]] bool chunked() const { return head_.minor_version >= 1; }
  /// Appends the status line and the headers that every answer has. `length`: of the body; nullopt for a stream.
  void write_head(std::string& out, int status, std::string_view content_type, std::optional<std::size_t> length, std::string_view headers);
  /// True if all of it is out; else co_await flush(). At most one write's rest is held.
  bool send_now(std::string_view first, std::string_view second = {});
  net::Task<void> flush();
  /// send_now + flush, for paths where a coroutine more does not matter.
  net::Task<void> send(std::string_view data);
  /// `data` as one chunk (as it is for HTTP/1.0).
  net::Task<void> send_chunk(std::string_view data);
  net::Task<void> end_stream();
  /// The answer cannot be completed: the connection will be closed so that the client notices.
  void abort();

  [[nodiscard]] bool keep_alive() const { return keep_alive_; }
  void close_after() { keep_alive_ = false; }
  [[nodiscard]] net::Loop& loop() { return loop_; }
  [[nodiscard]] net::Socket& client() { return client_; }

 private:
  friend class Connection;
  friend class Server;

  Connection& connection_;
  net::Loop& loop_;
  net::Socket& client_;
  net::Head& head_;
  std::string_view body_;
  base::RequestId id_;
  char id_text_[32] = "";
  std::shared_ptr<const Caller> caller_;  ///< never null
  std::optional<base::TenantName> named_tenant_;  ///< by ?tenant=
  std::shared_ptr<TenantAccount> limits_;         ///< what the answer's headers speak of; null: of nothing
  bool counted_ = false;                          ///< among limits_'s running requests
  base::TimePoint arrived_{};
  const Route* route_ = nullptr;
  std::string_view parameter_;
  std::string cors_origin_;  ///< whose page may read the answer; empty: none
  std::function<void()> wake_;
  std::unique_ptr<audit::Record> audited_;
  std::string unsent_;
  int status_ = 0;
  bool head_sent_ = false;
  bool gone_ = false;
  bool keep_alive_ = true;
};

/// "Tue, 24 Nov 2026 10:00:00 GMT", remade once a second.
std::string_view http_date(base::TimePoint now);

}  // namespace thaw::gateway
