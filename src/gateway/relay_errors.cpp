// What a client is told when there is no answer: a refusal, an engine's error, an end in the middle; before the head went out and after.
#include <algorithm>

#include "base/revision.h"
#include "gateway/relay.h"
#include "gateway/routes.h"

namespace thaw::gateway {

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

/// Not all engines have all routes; those that every one has are left alone, there it means something else.
bool Relay::lacks_route(int status) const {
  constexpr int kNotFound = 404, kMethodNotAllowed = 405;
  return !exchange_.route()->every_engine && (status == kNotFound || status == kMethodNotAllowed);
}

/// What the client is told instead of an engine's error answer.
std::string Relay::error_body(int status, std::string_view body) const {
  const Dialect dialect = exchange_.dialect();
  if (!lacks_route(status)) return to_anthropic(status, body, exchange_.id_text());
  return engine_without_route(base::public_model(model_->spec.name), spec::to_string(model_->spec.engine), exchange_.route()->pattern)
      .json(dialect, exchange_.id_text());
}

/// The client was promised a stream already, but the engine answers something else: its error becomes an event.
net::Task<Relay::Attempt> Relay::forward_error(const net::Head& head, std::string_view rest) {
  const int status = head.status;
  const auto size =
      head.body.kind == net::BodyLength::Kind::sized ? static_cast<std::size_t>(head.body.bytes) : rest.size();
  std::string body(rest);
  while (body.size() < size && body.size() < net::Loop::kScratchBytes) {
    char more[4096];
    const ssize_t count = co_await upstream_.socket->read({more, sizeof more});
    if (count == -EAGAIN) continue;
    if (exchange_.gone()) co_return Attempt::client_left;
    if (count <= 0) break;
    body.append(more, static_cast<std::size_t>(count));
  }
  answering();
  outcome_.status = status;
  const bool openai = exchange_.dialect() == Dialect::openai;
  if (lacks_route(status) || (status >= 400 && !openai)) body = error_body(status, body);
  std::erase_if(body, [](char c) { return c == '\n' || c == '\r'; });
  body = "data: " + body + "\n\n";
  if (status >= 400 && !openai) body = "event: error\n" + body;
  co_await exchange_.send_chunk(body);
  if (status < 400 && openai) co_await exchange_.send_chunk("data: [DONE]\n\n");
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
