#pragma once

#include <memory>
#include <optional>
#include <string>

#include "controller/controller.h"
#include "gateway/body_scan.h"
#include "gateway/exchange.h"
#include "gateway/usage_meter.h"
#include "gateway/usage_tap.h"
#include "net/task.h"

namespace thaw::gateway {

/// One request's way to a replica and its answer's way back. Tries replicas until one answers or the scheduler refuses; before the first
/// byte of the answer a failed replica is replaced silently, after it the client is told by an error event. Bytes of a stream go out as they
/// come, with their chunk framing as it is: they are scanned, not copied.
///
/// A streaming client that waits is held without headers for gateway.streamHold, so that a failure can still be a status; then it gets
/// 200 and SSE comments, which keep its timers quiet, until the answer begins.
class Relay {
 public:
  /// `serves`: whose replicas answer: the model itself, or an adapter's base. `priority`: what it asks for; absent: theirs.
  Relay(Exchange& exchange, controller::Controller& controller, std::shared_ptr<controller::ModelEntry> model,
        std::shared_ptr<controller::ModelEntry> serves, const BodyFacts& facts,
        std::optional<spec::Priority> priority, base::Duration stream_hold, UsageMeter& meter);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  net::Task<void> run();

  /// What became of it, once run() has returned.
  struct Outcome {
    int status = 0;               ///< as sent; 499: the client left
    bool refused = false;         ///< by the scheduler
    std::uint32_t attempts = 0;
    bool cold = false;
    wire::Way way = wire::Way::start;  ///< by which the replica came up that a cold request waited for
    std::string why;                   ///< ... and why so
    base::Duration queued{};
    base::TimePoint first_byte{};  ///< epoch: none was sent
    TokenCounts tokens;
    std::string failure;
    std::shared_ptr<controller::Replica> replica;
  };
  [[nodiscard]] const Outcome& outcome() const { return outcome_; }

 private:
  enum class Attempt { complete, client_left, failed };
  using Failure = control::RequestFailure;

  net::Task<bool> wait_for_replica();
  net::Task<void> answer_refusal(const control::Refuse& refusal);
  net::Task<Attempt> attempt();
  net::Task<std::optional<Attempt>> load_adapter();
  net::Task<void> answer_adapter_failed(const std::string& why);
  net::Task<std::optional<Attempt>> send_request();
  net::Task<std::optional<Attempt>> open_connection(bool fresh);
  net::Task<ssize_t> read_first();
  net::Task<std::optional<Attempt>> read_head(net::Head& head, std::string_view& rest);
  net::Task<Attempt> relay_buffered(net::Head& head, std::string_view rest);
  net::Task<Attempt> relay_stream(net::Head& head, std::string_view rest);
  net::Task<Attempt> send_whole(int status, std::string_view type, std::string_view rest);
  net::Task<Attempt> answer_error(const net::Head& head, std::string_view rest);
  net::Task<Attempt> forward_error(const net::Head& head, std::string_view rest);
  net::Task<std::optional<Attempt>> gather(net::BodyLength body, std::string_view rest, std::string& into);
  [[nodiscard]] bool in_other_words(int status) const;
  [[nodiscard]] bool lacks_route(int status) const;
  [[nodiscard]] std::string error_body(int status, std::string_view body) const;
  net::Task<Attempt> stream_on(net::BodyLength body, std::string_view rest, std::string head);
  net::Task<ssize_t> read_more();
  bool take(std::string_view& data, net::BodyLength& body, net::ChunkScanner& scanner, std::string* recoded);
  net::Task<Attempt> break_off(const net::ChunkScanner& scanner, Failure failure, std::string what);
  net::Task<void> hold_tick();
  Attempt fail(Failure failure, std::string detail);
  void answering();
  void client_left();
  void append_thaw_headers(std::string& out) const;
  void give_back();
  [[nodiscard]] std::string last_comment() const;
  [[nodiscard]] base::TimePoint hold_deadline() const { return streaming_ ? next_hold_ : base::never(); }

  Exchange& exchange_;
  controller::Controller& controller_;
  std::shared_ptr<controller::ModelEntry> model_;
  std::shared_ptr<controller::ModelEntry> serves_;
  controller::Ticket ticket_;
  bool streaming_;
  std::uint64_t affinity_;
  std::optional<spec::Priority> priority_;
  base::TimePoint next_hold_;
  base::TimePoint request_deadline_{};
  controller::AdapterWait* adapter_wait_ = nullptr;  ///< that goes on when the client leaves
  controller::Replica::Connection upstream_;
  std::string upstream_head_;  ///< request line and headers, sent before the body
  std::string gathered_;       ///< a response head, or a small answer, that came in pieces
  bool upstream_keep_alive_ = false;
  bool events_ = false;        ///< the answer is an event stream
  bool held_ = false;          ///< its headers went out before the outcome was known
  int engine_status_ = 0;      ///< of the replica's answer
  bool answering_ = false;     ///< a byte of the answer went out: no other replica may be tried
  bool ended_ = false;         ///< the scheduler has forgotten the request
  Failure failure_ = Failure::connect;
  UsageTap tap_;
  UsageMeter& meter_;
  Outcome outcome_;
};

}  // namespace thaw::gateway
