#include "gateway/relay.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include "base/revision.h"
#include "base/units.h"
#include "gateway/routes.h"

namespace thaw::gateway {
namespace {

constexpr base::Duration kCommentInterval = base::Seconds(10);  ///< well inside every client's and proxy's idle timeout
constexpr int kClientLeft = 499;                                ///< nginx's status for it; only in records

}  // namespace

Relay::Relay(Exchange& exchange, controller::Controller& controller, std::shared_ptr<controller::ModelEntry> model,
             std::shared_ptr<controller::ModelEntry> serves, const BodyFacts& facts, std::optional<spec::Priority> priority, base::Duration stream_hold, UsageMeter& meter)
    : exchange_(exchange),
      controller_(controller),
      model_(std::move(model)),
      serves_(std::move(serves)),
      ticket_(exchange.loop(), exchange.id()),
      streaming_(facts.stream),
      affinity_(facts.affinity),
      priority_(priority),
      next_hold_(exchange.arrived() + stream_hold),
      meter_(meter) {
  if (const auto session = exchange_.head().find("x-session-id")) affinity_ = affinity_of(*session);
  exchange_.when_gone([this] {
    ticket_.cancel();
    if (adapter_wait_ != nullptr) adapter_wait_->wake();
    if (upstream_.socket) upstream_.socket->cancel();
  });
}

Relay::~Relay() {
  exchange_.when_gone(nullptr);
}

net::Task<void> Relay::run() {
  base::ModelName adapter;
  if (model_->spec.is_adapter()) adapter = base::model_of(model_->spec.name);
  controller_.arrived(ticket_, serves_->spec.name, exchange_.caller().tenant, affinity_, priority_, adapter);
  while (true) {
    if (!ticket_.resolved() && !co_await wait_for_replica()) break;
    if (const control::Refuse* refusal = ticket_.refusal()) {
      ended_ = true;
      co_await answer_refusal(*refusal);
      break;
    }
    const controller::Grant& grant = *ticket_.grant();
    if (grant.cold) {
      outcome_.cold = true;
      outcome_.way = grant.replica->way();
      outcome_.why = grant.replica->why();
    }
    outcome_.queued += grant.queued;
    outcome_.replica = grant.replica;
    ++outcome_.attempts;
    meter_.dispatched(outcome_.replica, grant.cold);
    const Attempt result = co_await attempt();
    meter_.released();
    if (result == Attempt::complete) break;
    if (result == Attempt::client_left) {
      client_left();
      break;
    }
    upstream_.socket.reset();
    controller_.failed(ticket_, failure_);
    if (answering_) {
      ended_ = true;  // the scheduler forgets a request whose answer has begun
      break;
    }
  }
  constexpr int kEngineErrors = 500;
  if (!ended_ && engine_status_ >= kEngineErrors) controller_.engine_error(ticket_);
  if (!ended_) controller_.ended(ticket_);
  outcome_.status = outcome_.status == 0 ? exchange_.status() : outcome_.status;
  outcome_.tokens = tap_.counts();
}

void Relay::client_left() {
  outcome_.status = kClientLeft;
  exchange_.close_after();
}

net::Task<bool> Relay::wait_for_replica() {
  while (true) {
    if (exchange_.gone()) {
      client_left();
      co_return false;
    }
    const auto wake = co_await ticket_.wait(hold_deadline());
    if (wake == controller::Ticket::Wake::resolved) co_return true;
    if (wake == controller::Ticket::Wake::timed_out) co_await hold_tick();
  }
}

net::Task<void> Relay::hold_tick() {
  const base::TimePoint now = exchange_.loop().now();
  if (now < next_hold_) co_return;
  next_hold_ = now + kCommentInterval;
  std::string out;
  if (!exchange_.head_sent()) {
    held_ = true;
    exchange_.begin_stream(out, 200, "text/event-stream", "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
    co_await exchange_.send(out);
  }
  co_await exchange_.send_chunk(fmt::format(": waiting for {}\n\n", base::public_model(model_->spec.name)));
}

Relay::Attempt Relay::fail(Failure failure, std::string detail) {
  failure_ = failure;
  outcome_.failure = std::move(detail);
  return Attempt::failed;
}

void Relay::answering() {
  if (answering_) return;
  answering_ = true;
  outcome_.first_byte = net::Loop::clock();
  outcome_.failure.clear();
  controller_.answering(ticket_);
  exchange_.drop_request();
}

void Relay::append_thaw_headers(std::string& out) const {
  char number[24];
  const auto append = [&](std::string_view name, std::int64_t value) {
    const auto end = std::to_chars(number, number + sizeof number, value);
    out.append(name).append(number, static_cast<std::size_t>(end.ptr - number)).append("\r\n");
  };
  out.append(outcome_.cold ? "x-thaw-start: cold\r\n" : "x-thaw-start: warm\r\n");
  if (outcome_.cold) out.append("x-thaw-way: ").append(to_string(outcome_.way)).append("\r\n");
  append("x-thaw-queue-ms: ", base::duration_cast<base::Millis>(outcome_.queued).count());
  append("x-thaw-ttft-ms: ", base::duration_cast<base::Millis>(exchange_.loop().now() - exchange_.arrived()).count());
}

net::Task<Relay::Attempt> Relay::attempt() {
  request_deadline_ = exchange_.loop().now() + model_->spec.request_timeout;
  if (model_->spec.is_adapter() && model_->spec.engine != spec::EngineKind::llama_cpp)
    if (auto ended = co_await load_adapter()) co_return *ended;
  if (auto ended = co_await open_connection(false)) co_return *ended;
  net::Head head;
  std::string_view rest;
  if (auto ended = co_await read_head(head, rest)) co_return *ended;
  upstream_keep_alive_ = head.keep_alive;
  engine_status_ = head.status;
  const auto type = head.find("content-type").value_or("application/json");
  events_ = type.substr(0, 17) == "text/event-stream";
  if (exchange_.head_sent() && !events_) co_return co_await forward_error(head, rest);
  if (!events_ && in_other_words(head.status)) co_return co_await answer_error(head, rest);
  if (head.body.kind == net::BodyLength::Kind::none ||
      (head.body.kind == net::BodyLength::Kind::sized && head.body.bytes <= net::Loop::kScratchBytes * 16))
    co_return co_await relay_buffered(head, rest);
  co_return co_await relay_stream(head, rest);
}

/// The replica's engine has the adapter, or is told of it now. Nothing: the request can go there.
net::Task<std::optional<Relay::Attempt>> Relay::load_adapter() {
  using State = controller::AdapterLoad::State;
  const base::ModelName adapter = base::model_of(model_->spec.name);
  controller::AdapterWait wait(exchange_.loop(), controller_.load_adapter(*outcome_.replica, adapter));
  adapter_wait_ = &wait;
  while (wait.load().state() == State::under_way && !exchange_.gone() && exchange_.loop().now() < request_deadline_) {
    co_await wait.until(std::min(request_deadline_, hold_deadline()));
    if (streaming_ && wait.load().state() == State::under_way && !exchange_.gone()) co_await hold_tick();
  }
  adapter_wait_ = nullptr;
  if (exchange_.gone()) co_return Attempt::client_left;
  switch (wait.load().state()) {
    case State::loaded: co_return std::nullopt;
    case State::replica_lost: co_return fail(Failure::connect, wait.load().error());
    case State::under_way:
      co_return fail(Failure::stalled, "the engine did not load the adapter within " + base::format_duration(model_->spec.request_timeout));
    case State::failed: break;
  }
  co_await answer_adapter_failed(wait.load().error());
  co_return Attempt::complete;
}

net::Task<std::optional<Relay::Attempt>> Relay::open_connection(bool fresh) {
  net::Loop& loop = exchange_.loop();
  auto connected = fresh ? outcome_.replica->connect_fresh(loop) : outcome_.replica->connect(loop);
  if (!connected.ok()) co_return fail(Failure::connect, connected.error().message);
  upstream_ = std::move(connected).value();
  upstream_.socket->set_deadline(request_deadline_);
  co_return co_await send_request();
}

net::Task<std::optional<Relay::Attempt>> Relay::send_request() {
  const std::string_view body = exchange_.body();
  if (upstream_head_.empty()) {
    const bool form = exchange_.route()->body == BodyForm::form;
    upstream_head_.reserve(256);
    upstream_head_.append("POST ")
        .append(exchange_.head().path())
        .append(" HTTP/1.1\r\nHost: thaw\r\nContent-Type: ")
        .append(form ? exchange_.head().find("content-type").value_or("") : "application/json")
        .append("\r\nContent-Length: ");
    upstream_head_.append(std::to_string(body.size()))
        .append("\r\nx-request-id: ")
        .append(exchange_.id_text())
        .append("\r\n\r\n");
  }
  co_await exchange_.loop().batch_end();
  if (exchange_.gone()) co_return Attempt::client_left;
  const std::array<iovec, 2> parts{iovec{upstream_head_.data(), upstream_head_.size()},
                                   iovec{const_cast<char*>(body.data()), body.size()}};
  ssize_t sent = upstream_.socket->try_write(parts);
  if (sent == -EAGAIN) sent = 0;
  int error = sent < 0 ? static_cast<int>(sent) : 0;
  const auto done = static_cast<std::size_t>(std::max<ssize_t>(sent, 0));
  if (error == 0 && done < upstream_head_.size())
    error = co_await upstream_.socket->write_all(std::string_view(upstream_head_).substr(done));
  const std::size_t body_done = done > upstream_head_.size() ? done - upstream_head_.size() : 0;
  if (error == 0 && body_done < body.size()) error = co_await upstream_.socket->write_all(body.substr(body_done));
  if (exchange_.gone()) co_return Attempt::client_left;
  if (error == 0) co_return std::nullopt;
  if (upstream_.reused) co_return co_await open_connection(true);
  co_return fail(error == -ETIMEDOUT ? Failure::stalled : Failure::connect, "the engine did not take the request");
}

net::Task<ssize_t> Relay::read_first() {
  net::Loop& loop = exchange_.loop();
  while (true) {
    if (exchange_.gone()) co_return -ECANCELED;  // it may have left during the last comment: nothing would wake us
    upstream_.socket->set_deadline(std::min(request_deadline_, hold_deadline()));
    const int failed = co_await upstream_.socket->readable();
    if (exchange_.gone()) co_return -ECANCELED;
    if (failed == -ETIMEDOUT) {
      if (loop.now() >= request_deadline_) co_return failed;
      co_await hold_tick();
      continue;
    }
    if (failed != 0) co_return failed;
    const ssize_t count = upstream_.socket->try_read({loop.scratch(), net::Loop::kScratchBytes});
    if (count != -EAGAIN) co_return count;
  }
}

/// Leaves `rest` pointing at the first body bytes, in the scratch buffer or in gathered_: use them before the next
/// suspension.
net::Task<std::optional<Relay::Attempt>> Relay::read_head(net::Head& head, std::string_view& rest) {
  gathered_.clear();
  while (true) {
    const ssize_t count = co_await read_first();
    if (count == -ECANCELED) co_return Attempt::client_left;
    if (count == -ETIMEDOUT)
      co_return fail(Failure::stalled,
                     "the engine did not answer within " + base::format_duration(model_->spec.request_timeout));
    if (count <= 0) {
      if (!upstream_.reused || !gathered_.empty())
        co_return fail(Failure::connect, "the engine closed the connection without an answer");
      // An idle connection that the engine closed just as it was used: no verdict on the replica.
      if (auto ended = co_await open_connection(true)) co_return ended;
      continue;
    }
    std::string_view data(exchange_.loop().scratch(), static_cast<std::size_t>(count));
    if (!gathered_.empty()) data = gathered_.append(data);
    net::HeadError error;
    const net::Parse parsed = net::parse_response(data, false, head, error);
    if (parsed == net::Parse::bad)
      co_return fail(Failure::connect, fmt::format("the engine's answer is no HTTP: {}", error.message));
    if (parsed == net::Parse::more) {
      if (gathered_.empty()) gathered_.assign(data);
      continue;
    }
    rest = data.substr(head.bytes);
    co_return std::nullopt;
  }
}

/// A small answer: nothing goes out before all of it is here, so that a replica that fails in the middle can still be
/// replaced.
net::Task<Relay::Attempt> Relay::relay_buffered(net::Head& head, std::string_view rest) {
  const std::size_t size =
      head.body.kind == net::BodyLength::Kind::sized ? static_cast<std::size_t>(head.body.bytes) : 0;
  const int status = head.status;
  const std::string type(head.find("content-type").value_or("application/json"));
  std::string body;
  if (rest.size() < size) {
    body.reserve(size);
    body.append(rest);
    while (body.size() < size) {
      upstream_.socket->set_deadline(request_deadline_);
      const std::size_t have = body.size();
      body.resize(size);
      ssize_t count = co_await upstream_.socket->read({body.data() + have, size - have});
      if (count == -EAGAIN)
        count = 0;
      else if (exchange_.gone())
        co_return Attempt::client_left;
      else if (count <= 0)
        co_return fail(count == -ETIMEDOUT ? Failure::stalled : Failure::cut,
                       "the engine broke off in the middle of its answer");
      body.resize(have + static_cast<std::size_t>(count));
    }
    rest = body;
  }
  if (rest.size() > size) upstream_keep_alive_ = false;  // more than it announced: do not use this connection again
  rest = rest.substr(0, size);
  tap_.document(rest);
  co_return co_await send_whole(status, type, rest);
}

/// An answer that is here, in one piece.
net::Task<Relay::Attempt> Relay::send_whole(int status, std::string_view type, std::string_view rest) {
  std::string out;
  out.reserve(512);
  std::string extra;
  append_thaw_headers(extra);
  exchange_.write_head(out, status, type, rest.size(), extra);
  if (const auto kept = exchange_.loop().keep(rest)) {
    rest = *kept;
    co_await exchange_.loop().batch_end();
  }
  const bool sent = exchange_.send_now(out, rest);
  answering();
  give_back();
  if (!sent) co_await exchange_.flush();
  co_return exchange_.gone() ? Attempt::client_left : Attempt::complete;
}

net::Task<Relay::Attempt> Relay::relay_stream(net::Head& head, std::string_view rest) {
  const net::BodyLength body = head.body;
  std::string out;
  if (!exchange_.head_sent()) {
    out.reserve(512);
    std::string extra = "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n";
    append_thaw_headers(extra);
    const auto type = head.find("content-type").value_or("text/event-stream");
    if (body.kind == net::BodyLength::Kind::sized) {
      exchange_.write_head(out, head.status, type, static_cast<std::size_t>(body.bytes), extra);
    } else {
      exchange_.begin_stream(out, head.status, type, extra);
    }
  }
  co_return co_await stream_on(body, rest, std::move(out));
}

/// Accounts for body bytes that came; cuts off what is behind the end. `recoded`, if given, gets the content in the
/// client's own framing. Returns whether the body is complete.
bool Relay::take(std::string_view& data, net::BodyLength& body, net::ChunkScanner& scanner, std::string* recoded) {
  const auto recode = [&](std::string_view run) {
    if (exchange_.chunked()) recoded->append(fmt::format("{:x}\r\n", run.size()));
    recoded->append(run);
    if (exchange_.chunked()) recoded->append("\r\n");
  };
  const auto content = [&](std::string_view run) {
    if (events_) tap_.stream(run);
    if (recoded != nullptr) recode(run);
  };
  std::size_t used = data.size();
  bool complete = false;
  switch (body.kind) {
    case net::BodyLength::Kind::chunked:
      used = scanner.scan(data, content);
      complete = scanner.done();
      break;
    case net::BodyLength::Kind::sized:
      used = static_cast<std::size_t>(std::min<std::uint64_t>(body.bytes, data.size()));
      if (used > 0) content(data.substr(0, used));
      body.bytes -= used;
      complete = body.bytes == 0;
      break;
    case net::BodyLength::Kind::until_close:
      if (used > 0) content(data);
      break;
    case net::BodyLength::Kind::none:
      complete = true;
      break;
  }
  if (used < data.size())
    upstream_keep_alive_ = false;  // it sent more than its answer: do not use this connection again
  data = data.substr(0, used);
  if (complete && held_ && recoded != nullptr) recode(last_comment());
  if (complete && recoded != nullptr && exchange_.chunked()) recoded->append("0\r\n\r\n");
  return complete;
}

/// More of the answer into the scratch buffer: bytes, 0 at the end, or -errno.
net::Task<ssize_t> Relay::read_more() {
  net::Loop& loop = exchange_.loop();
  upstream_.socket->set_deadline(std::min(request_deadline_, loop.now() + model_->spec.stall_timeout));
  while (true) {
    if (const int failed = co_await upstream_.socket->readable(); failed != 0) co_return failed;
    const ssize_t count = upstream_.socket->try_read({loop.scratch(), net::Loop::kScratchBytes});
    if (count != -EAGAIN) co_return count;
  }
}

/// Bytes go out as they come. The head waits for the first of them: until then another replica may be tried.
net::Task<Relay::Attempt> Relay::stream_on(net::BodyLength body, std::string_view rest, std::string head) {
  net::ChunkScanner scanner;
  const bool as_it_is = !held_ && (body.kind == net::BodyLength::Kind::sized ||
                                   (body.kind == net::BodyLength::Kind::chunked && exchange_.chunked()));
  std::string recoded;
  while (true) {
    recoded.clear();
    const bool complete = take(rest, body, scanner, as_it_is ? nullptr : &recoded);
    if (scanner.bad()) co_return co_await break_off(scanner, Failure::cut, "the engine's answer has malformed chunks");
    std::string_view data = as_it_is ? rest : std::string_view(recoded);
    if (!data.empty() || complete) {
      if (!as_it_is) {
        co_await exchange_.loop().batch_end();
      } else if (const auto kept = exchange_.loop().keep(data)) {
        data = *kept;
        co_await exchange_.loop().batch_end();
      }
      const bool sent = head.empty() ? exchange_.send_now(data) : exchange_.send_now(head, data);
      if (!answering_) {
        answering();
        head = {};
        gathered_ = {};
        upstream_head_ = {};
      }
      if (!sent) co_await exchange_.flush();
    }
    if (exchange_.gone()) co_return Attempt::client_left;
    if (complete) {
      give_back();
      co_return Attempt::complete;
    }
    const ssize_t count = co_await read_more();
    if (exchange_.gone()) co_return Attempt::client_left;
    if (count == 0 && body.kind == net::BodyLength::Kind::until_close) {
      body.kind = net::BodyLength::Kind::none;  // closing is how this body ends
      rest = {};
    } else if (count <= 0) {
      // No co_await inside ?: here. g++ 12 evaluates both: two error events, and a stream that ends twice.
      const bool silent = count == -ETIMEDOUT;
      const char* const what = silent ? "the engine fell silent in the middle of its answer"
                                      : "the engine broke off in the middle of its answer";
      co_return co_await break_off(scanner, silent ? Failure::stalled : Failure::cut, what);
    } else {
      rest = std::string_view(exchange_.loop().scratch(), static_cast<std::size_t>(count));
    }
  }
}

/// The numbers that were not known when the headers went out early, for people who look: event streams ignore comments.
std::string Relay::last_comment() const {
  const auto ms = [](base::Duration d) { return base::duration_cast<base::Millis>(d).count(); };
  const base::TimePoint first = outcome_.first_byte == base::TimePoint{} ? exchange_.loop().now() : outcome_.first_byte;
  return fmt::format(": thaw start={} queue_ms={} ttft_ms={}\n\n", outcome_.cold ? "cold" : "warm", ms(outcome_.queued),
                     ms(first - exchange_.arrived()));
}

/// The answer is complete: the connection can carry the next request.
void Relay::give_back() {
  if (upstream_keep_alive_) outcome_.replica->keep(std::move(upstream_.socket));
  upstream_.socket.reset();
}

}  // namespace thaw::gateway
