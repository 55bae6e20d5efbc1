// What a client is told when there is no answer: a refusal, an engine's error, an end in the middle; before the head went out and after.
#include <algorithm>
#include <cerrno>

#include "base/revision.h"
#include "gateway/relay.h"
#include "gateway/routes.h"

namespace thaw::gateway {
namespace {

constexpr int kFirstError = 400;
constexpr std::size_t kMaxErrorBytes = 64U << 10U;  ///< of an engine's error: people and clients read less

}  // namespace

net::Task<void> Relay::answer_refusal(const control::Refuse& refusal) {
  const ApiError error = refused(refusal);
  outcome_.failure = error.message;
  outcome_.status = error.status;
  outcome_.refused = true;
  if (!exchange_.head_sent()) {
    co_await exchange_.respond_error(error);
    co_return;
  }
  co_await exchange_.send_chunk(error.event(exchange_.dialect(), exchange_.id_text()));
  co_await exchange_.end_stream();
}

/// The replica is well and answers others; only this adapter it will not have.
net::Task<void> Relay::answer_adapter_failed(const std::string& why) {
  const ApiError error{502, "server_error", "adapter_failed",
                       "adapter \"" + base::public_model(model_->spec.name) + "\" could not be loaded: " + why, "model", {}};
  outcome_.failure = error.message;
  outcome_.status = error.status;
  if (!exchange_.head_sent()) {
    co_await exchange_.respond_error(error);
    co_return;
  }
  co_await exchange_.send_chunk(error.event(exchange_.dialect(), exchange_.id_text()));
  co_await exchange_.end_stream();
}

/// Not all engines have all routes; those that every one has are left alone, there it means something else.
bool Relay::lacks_route(int status) const {
  constexpr int kNotFound = 404, kMethodNotAllowed = 405;
  return !exchange_.route()->every_engine && (status == kNotFound || status == kMethodNotAllowed);
}

/// Whether the client is told something else than the engine's own body.
bool Relay::in_other_words(int status) const {
  return status >= kFirstError && (lacks_route(status) || exchange_.dialect() != Dialect::openai);
}

/// What the client is told instead of an engine's error answer.
std::string Relay::error_body(int status, std::string_view body) const {
  const Dialect dialect = exchange_.dialect();
  if (!lacks_route(status)) return to_anthropic(status, body, exchange_.id_text());
  return engine_without_route(base::public_model(model_->spec.name), spec::to_string(model_->spec.engine), exchange_.route()->pattern)
      .json(dialect, exchange_.id_text());
}

/// The content of a body, whatever its framing. What is beyond kMaxErrorBytes is left where it is, and the connection is not used again.
net::Task<std::optional<Relay::Attempt>> Relay::gather(net::BodyLength body, std::string_view rest, std::string& into) {
  using Kind = net::BodyLength::Kind;
  net::ChunkScanner scanner;
  const auto content = [&into](std::string_view run) { into.append(run.substr(0, kMaxErrorBytes - into.size())); };
  while (true) {
    std::size_t used = rest.size();
    bool complete = body.kind == Kind::none;
    if (body.kind == Kind::chunked) {
      used = scanner.scan(rest, content);
      complete = scanner.done();
      if (scanner.bad()) co_return fail(Failure::cut, "the engine's answer has malformed chunks");
    } else if (body.kind == Kind::sized) {
      used = static_cast<std::size_t>(std::min<std::uint64_t>(body.bytes, rest.size()));
      content(rest.substr(0, used));
      body.bytes -= used;
      complete = body.bytes == 0;
    } else if (body.kind == Kind::until_close) {
      content(rest);
    }
    if (used < rest.size()) upstream_keep_alive_ = false;  // it sent more than its answer
    if (complete) co_return std::nullopt;
    if (into.size() == kMaxErrorBytes) break;
    const ssize_t count = co_await read_more();
    if (exchange_.gone()) co_return Attempt::client_left;
    if (count == 0 && body.kind == Kind::until_close) break;
    if (count <= 0) co_return fail(count == -ETIMEDOUT ? Failure::stalled : Failure::cut, "the engine broke off in the middle of its answer");
    rest = std::string_view(exchange_.loop().scratch(), static_cast<std::size_t>(count));
  }
  upstream_keep_alive_ = false;
  co_return std::nullopt;
}

/// An engine's error in the words that the client's API has for it.
net::Task<Relay::Attempt> Relay::answer_error(const net::Head& head, std::string_view rest) {
  const int status = head.status;
  std::string engines;
  if (auto ended = co_await gather(head.body, rest, engines)) co_return *ended;
  const std::string body = error_body(status, engines);
  co_return co_await send_whole(status, "application/json", body);
}

/// The client was promised a stream already, but the engine answers something else: its error becomes an event.
net::Task<Relay::Attempt> Relay::forward_error(const net::Head& head, std::string_view rest) {
  const int status = head.status;
  std::string body;
  if (auto ended = co_await gather(head.body, rest, body)) co_return *ended;
  answering();
  outcome_.status = status;
  const bool openai = exchange_.dialect() == Dialect::openai;
  if (in_other_words(status)) body = error_body(status, body);
  std::erase_if(body, [](char c) { return c == '\n' || c == '\r'; });
  body = "data: " + body + "\n\n";
  if (status >= kFirstError && !openai) body = "event: error\n" + body;
  co_await exchange_.send_chunk(body);
  if (status < kFirstError && openai) co_await exchange_.send_chunk("data: [DONE]\n\n");
  co_await exchange_.end_stream();
  co_return Attempt::complete;
}

/// The replica failed in the middle. If part of the answer went out, the client is told: by an error event, or by a
/// reset where the answer has no place for one. Never a silent end.
net::Task<Relay::Attempt> Relay::break_off(const net::ChunkScanner& scanner, Failure failure, std::string what) {
  const Attempt result = fail(failure, what);
  if (!answering_) co_return result;
  std::string out;
  if (!events_ || (exchange_.chunked() && !scanner.complete_chunk(out))) {
    exchange_.abort();
    co_return result;
  }
  const ApiError error{502, "server_error", "replica_failed", std::move(what), {}, {}};
  co_await exchange_.send(out);
  co_await exchange_.send_chunk("\n\n" + error.event(exchange_.dialect(), exchange_.id_text()));
  co_await exchange_.end_stream();
  co_return result;
}

}  // namespace thaw::gateway
