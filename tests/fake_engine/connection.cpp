#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "json_scan.h"
#include "server.h"

namespace thaw::fake_engine {
namespace {

constexpr std::string_view kJson = "application/json; charset=utf-8";
constexpr std::size_t kMaxBacklogBytes = 256U << 10;  // unsent bytes of one stream
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

std::string make_error(const Behaviour& behaviour, bool keep_alive) {
  constexpr std::size_t kLongBytes = 1U << 20;
  const std::string body = error_body(behaviour.status, "asked to fail" + (behaviour.long_error ? std::string(kLongBytes, '!') : ""));
  if (behaviour.error_framing == Behaviour::Framing::sized) return make_response(behaviour.status, kJson, body, keep_alive);
  return make_unsized_response(behaviour.status, kJson, body, behaviour.error_framing == Behaviour::Framing::chunked, keep_alive);
}

}  // namespace

void Server::serve_input(Connection& c) {
  std::size_t used = 0;
  c.serving = true;
  while (!c.closed && !c.close_when_flushed && !c.answer && c.late_reply.empty() && !c.hung) {
    Request request;
    const Parse parsed = parse_request(std::string_view(c.in).substr(used), request);
    if (parsed == Parse::incomplete) {
      if (request.expects_continue && c.out.empty()) {
        c.out = kContinue;
        flush(c);
        // Once is enough: the header is not looked at again.
        const std::size_t at = c.in.find("100-continue");
        if (at != std::string::npos) c.in.replace(at, 3, "000");
      }
      break;
    }
    if (parsed == Parse::bad) {
      reply(c, 400, error_body(400, "bad request"), false);
      break;
    }
    used += request.total_bytes;
    handle(c, request);
  }
  c.serving = false;
  c.in.erase(0, used);
}

void Server::reply(Connection& c, int status, std::string_view body, bool keep_alive) {
  c.out += make_response(status, kJson, body, keep_alive);
  c.close_when_flushed = !keep_alive;
  flush(c);
}

void Server::handle(Connection& c, const Request& request) {
  const bool keep = request.keep_alive;
  if (!ready_for_good_) ready_for_good_ = ready();
  if (request.target == "/fake/stats") return reply(c, 200, stats_body(), keep);
  if (!ready_for_good_) return reply(c, 503, error_body(503, "Loading model"), keep);
  if (const auto slept = sleeper_.handle(request)) return reply_later(c, *slept, keep);
  if (const auto told = adapters_.handle(request)) return reply_later(c, *told, keep);
  if (request.method == "POST") {
    if (!serves_model(request.body)) return reply(c, 404, error_body(404, "The model does not exist."), keep);
    if (sleeper_.asleep()) return reply(c, 503, error_body(503, "asleep"), keep);
    if (sleeper_.lost_weights()) return reply(c, 200, R"({"choices":[{"text":"#%&!"}]})", keep);
    model_.read();
    if (request.target == "/v1/chat/completions") return begin_answer(c, request, Endpoint::chat);
    if (request.target == "/v1/completions") return begin_answer(c, request, Endpoint::completion);
    for (const char* echoed : {"/v1/responses", "/v1/rerank", "/rerank", "/v1/audio/transcriptions", "/v1/messages"}) {
      if (request.target != echoed) continue;
      ++stats_.requests;
      ++stats_.completed;
      if (const Behaviour behaviour = behaviour_of(options_, request.body); behaviour.status != 0) {
        c.out += make_error(behaviour, keep);
        c.close_when_flushed = !keep || behaviour.error_framing == Behaviour::Framing::until_close;
        return flush(c);
      }
      return reply(c, 200, echo_body(request), keep);
    }
    if (request.target == "/v1/embeddings") {
      ++stats_.requests;
      ++stats_.completed;
      return reply(c, 200, embeddings_body(request.body, options_), keep);
    }
  } else {
    if (request.target == options_.health) return reply(c, 200, R"({"status":"ok"})", keep);
    if (request.target == "/health") return reply(c, 418, error_body(418, "not here"), keep);
    if (request.target == "/metrics") return reply(c, 200, metrics_body(), keep);
    if (request.target == "/v1/models") return reply(c, 200, models_body(options_), keep);
  }
  reply(c, 404, error_body(404, "File Not Found"), keep);
}

void Server::reply_later(Connection& c, const Sleeper::Reply& late, bool keep_alive) {
  if (late.hang) {
    c.hung = true;
    return;
  }
  if (late.delay_ms <= 0) return reply(c, late.status, late.body, keep_alive);
  c.late_reply = make_response(late.status, kJson, late.body, keep_alive);
  c.keep_alive = keep_alive;
  schedule(c, late.delay_ms);
}

void Server::begin_answer(Connection& c, const Request& request, Endpoint endpoint) {
  ++stats_.requests;
  ++stats_.active;
  if (options_.leak_mib > 0) leaked_.emplace_back(static_cast<std::size_t>(options_.leak_mib) << 20, 'x');
  c.answer = std::make_unique<Answer>(endpoint, request.body, options_);
  c.keep_alive = request.keep_alive;
  c.chunked = request.chunked_allowed;
  c.begun = c.hung = false;
  c.next_token = 0;
  if (c.answer->streamed()) c.stream_head = make_stream_head(request);
  const Behaviour& behaviour = c.answer->behaviour();
  if (behaviour.first_ms > 0) return schedule(c, behaviour.first_ms);
  step(c);
}

/// One step of an answer: an error, a whole answer, or a stream's next tokens.
void Server::step(Connection& c) {
  if (c.hung) return;
  if (!c.late_reply.empty()) {
    c.out += std::exchange(c.late_reply, {});
    c.close_when_flushed = !c.keep_alive;
    flush(c);
    if (c.closed) return;
  }
  if (!c.answer) return serve_input(c);  // a pipelined request had to wait for the answer before it
  const Behaviour& behaviour = c.answer->behaviour();
  if (behaviour.when == Behaviour::When::start && meet_trouble(c)) return;
  if (behaviour.status != 0) {
    if (behaviour.error_framing == Behaviour::Framing::until_close) c.keep_alive = false;
    c.out += make_error(behaviour, c.keep_alive);
    return finish(c);
  }
  if (c.answer->streamed()) {
    if (step_stream(c)) finish(c);
    return;
  }
  if (behaviour.when == Behaviour::When::middle && meet_trouble(c)) return;
  // The tokens' delays are waited for in one piece.
  const std::int64_t delay_ms = behaviour.delay_ms * c.answer->tokens();
  if (delay_ms > 0 && !c.begun) {
    c.begun = true;
    return schedule(c, delay_ms);
  }
  c.out += make_response(200, kJson, c.answer->whole(), c.keep_alive);
  finish(c);
}

/// True when the stream is complete.
bool Server::step_stream(Connection& c) {
  const Answer& answer = *c.answer;
  const Behaviour& behaviour = answer.behaviour();
  if (c.out.size() - c.out_sent > kMaxBacklogBytes) {
    c.blocked = true;
    return false;
  }
  std::string events;
  if (!c.begun) {
    c.begun = true;
    c.out += c.stream_head;
    if (events = answer.first_event(); !events.empty()) append_chunk(c.out, events, c.chunked);
    if (behaviour.delay_ms > 0) {
      flush(c);
      if (!c.closed) schedule(c, behaviour.delay_ms);
      return false;
    }
  }
  const std::int64_t burst = behaviour.delay_ms > 0 ? 1 : std::max<std::int64_t>(1, options_.burst);
  for (std::int64_t i = 0; i < burst && c.next_token < answer.tokens(); ++i) {
    if (behaviour.when == Behaviour::When::middle && c.next_token == answer.tokens() / 2) {
      flush(c);
      if (c.closed || meet_trouble(c)) return false;
    }
    events.clear();
    answer.append_token_event(events, c.next_token++);
    append_chunk(c.out, events, c.chunked);
  }
  if (c.next_token >= answer.tokens()) {
    append_chunk(c.out, answer.last_events(), c.chunked);
    if (c.chunked) c.out += "0\r\n\r\n";
    return true;
  }
  flush(c);
  if (c.closed) return false;
  if (behaviour.delay_ms == 0 && !c.out.empty()) c.blocked = true;  // goes on when the client has read
  else schedule(c, behaviour.delay_ms);
  return false;
}

/// Does what the request asks to go wrong. False when nothing does.
bool Server::meet_trouble(Connection& c) {
  switch (c.answer->behaviour().trouble) {
    case Behaviour::Trouble::none: return false;
    case Behaviour::Trouble::crash: std::abort();
    case Behaviour::Trouble::exit: ::_exit(1);
    case Behaviour::Trouble::hang: c.hung = true; return true;
    case Behaviour::Trouble::cut:
      --stats_.active;
      c.answer.reset();
      close(c);
      return true;
  }
  return false;
}

void Server::finish(Connection& c) {
  c.answer.reset();
  --stats_.active;
  ++stats_.completed;
  c.close_when_flushed = !c.keep_alive || !c.chunked;
  const auto limit = static_cast<std::uint64_t>(options_.exit_after_requests);
  exiting_ = limit != 0 && stats_.completed >= limit;
  flush(c);
  if (!c.closed && !c.serving && !c.in.empty()) schedule(c, 0);
}

std::string Server::stats_body() const {
  const auto field = [](const char* name, std::uint64_t value) { return std::string("\"") + name + "\":" + std::to_string(value); };
  return "{" + field("requests", stats_.requests) + "," + field("completed", stats_.completed) + "," + field("cancelled", stats_.cancelled) +
         "," + field("active", stats_.active) + "," + field("connections", stats_.connections) + "," + field("level1_sleeps", sleeper_.counts().level1) +
         "," + field("level2_sleeps", sleeper_.counts().level2) + "," + field("reloads", sleeper_.counts().reloads) + ",\"cache_words\":\"" + options_.cache_words + "\"," + field("adapter_loads", adapters_.loads()) + "," +
         field("adapter_unloads", adapters_.unloads()) + ",\"adapters\":\"" + adapters_.names() + "\"}";
}

/// Two of vLLM's.
std::string Server::metrics_body() const {
  return "# HELP vllm:num_requests_running Requests that are computed.\n# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name=\"" +
         options_.alias + "\"} " + std::to_string(stats_.active) + "\n# TYPE vllm:request_success counter\nvllm:request_success_total{model_name=\"" +
         options_.alias + "\",finished_reason=\"stop\"} " + std::to_string(stats_.completed) + "\n";
}

/// llama-server answers for whatever model it is asked; the others do not.
bool Server::serves_model(std::string_view body) const {
  return options_.kind == Kind::llama || json_string(json_member(body, "model")) == options_.alias ||
         (options_.kind == Kind::vllm && adapters_.has(json_string(json_member(body, "model"))));
}

}  // namespace thaw::fake_engine
