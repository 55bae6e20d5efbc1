// Why things happened to a model, and what would happen next.
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <charconv>

#include "gateway/admin.h"
#include "gateway/admin_adapters.h"
#include "base/revision.h"
#include "gateway/admin_pulls.h"
#include "gateway/priority.h"
#include "gateway/server.h"

namespace thaw::gateway::admin {
namespace {

namespace json = boost::json;

constexpr base::Duration kLookInterval = base::Millis(100);

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

json::object describe(Server& server, const controller::ModelEvent& event) {
  json::object o{{"seq", event.seq},
                 {"unix_ms", event.unix_ms},
                 {"event", to_string(event.kind)},
                 {"replica", nullptr},
                 {"node", event.node.empty() ? json::value(nullptr) : json::value(event.node.str())},
                 {"device", event.device.empty() ? json::value(nullptr) : json::value(event.device)},
                 {"reason", event.reason},
                 {"rule", event.cause.rule == control::Rule::none ? json::value(nullptr) : json::value(to_string(event.cause.rule))},
                 {"request", nullptr},
                 {"took_ms", nullptr}};
  if (event.replica) o["replica"] = event.replica.value();
  if (event.took) o["took_ms"] = base::to_ms(*event.took);
  if (event.cause.request) {
    char id[32] = "";
    server.requests().format(event.cause.request, id);
    o["request"] = id;
  }
  return o;
}

json::object describe(const control::EstimatedPart& part) {
  return {{"name", part.name},
          {"ms", part.known || part.takes > base::Duration::zero() ? json::value(base::to_ms(part.takes)) : json::value(nullptr)},
          {"source", part.source}};
}

json::value or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(text);
}

/// A model that is there; else the answer was given.
net::Task<bool> there(Server& server, Exchange& exchange) {
  const base::ModelName name = exchange.model();
  if (server.services().controller.find(server.services().rollouts.serving(name)) != nullptr) co_return true;
  if (const auto pulling = still_pulling(server, name))
    co_await exchange.respond_error(*pulling);
  else
    co_await respond_no_such_model(exchange);
  co_return false;
}

/// An object a line, as things happen, until the client or the model goes or the server shuts down.
net::Task<void> follow(Server& server, Exchange& exchange, const base::ModelName& name, std::uint64_t after) {
  std::string head;
  exchange.begin_stream(head, 200, "application/x-ndjson", "Cache-Control: no-cache\r\n");
  co_await exchange.send(head);
  const controller::Controller& controller = server.services().controller;
  while (!exchange.gone()) {
    std::string lines;
    for (const controller::ModelEvent& event : controller.events().since(name, after)) {
      after = event.seq;
      lines += json::serialize(describe(server, event)) + "\n";
    }
    if (!lines.empty()) co_await exchange.send_chunk(lines);
    if (server.draining() || controller.find(server.services().rollouts.serving(name)) == nullptr) break;
    co_await net::SleepUntil(server.loop(), server.loop().now() + kLookInterval);
  }
  co_await exchange.end_stream();
}

}  // namespace

net::Task<void> model_events(Server& server, Exchange& exchange) {
  if (!co_await there(server, exchange)) co_return;
  const base::ModelName name = exchange.model();
  const std::uint64_t after = number(exchange.query("after"));
  if (exchange.query("follow") == "1") {
    co_await follow(server, exchange, name, after);
    co_return;
  }
  json::array events;
  std::uint64_t last = after;
  for (const controller::ModelEvent& event : server.services().controller.events().since(name, after)) {
    events.push_back(describe(server, event));
    last = event.seq;
  }
  const json::object answer{{"model", base::public_name(name)}, {"tenant", base::tenant_part(name)}, {"events", std::move(events)}, {"last", last}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> explain_model(Server& server, Exchange& exchange) {
  if (!co_await there(server, exchange)) co_return;
  const base::ModelName name = exchange.model();
  std::optional<spec::Priority> priority;
  if (const std::string_view asked = exchange.query("priority"); !asked.empty()) {
    const auto read = read_priority(asked, "?priority=");
    if (!read.ok()) {
      const ApiError wrong = invalid_request(read.error().message, "priority");
      co_await exchange.respond_error(wrong);
      co_return;
    }
    priority = *read;
  }
  const base::ModelName runs = answers_for(server, name);
  const control::Explanation e = server.services().controller.explain(server.services().rollouts.serving(runs), base::tenant_of(name), priority);
  json::array devices, displaced, parts;
  for (const base::DeviceId& device : e.devices) devices.emplace_back(device.str());
  for (const control::Displaced& other : e.displaced) {
    const bool seen = exchange.sees(other.model);
    displaced.push_back(json::object{{"replica", seen ? json::value(other.instance.value()) : json::value(nullptr)},
                                     {"model", seen ? json::value(base::public_model(other.model)) : json::value(nullptr)},
                                     {"tenant", seen ? json::value(base::tenant_part(other.model)) : json::value(nullptr)},
                                     {"to", other.to_standby ? "standby" : "stopped"},
                                     {"in_flight", other.in_flight}});
  }
  for (const control::EstimatedPart& part : e.parts) parts.push_back(describe(part));
  const bool refused = e.prospect == control::Prospect::refused;
  json::object answer{{"model", base::public_name(name)},
                      {"tenant", base::tenant_part(name)},
                      {"prospect", to_string(e.prospect)},
                      {"summary", e.summary},
                      {"replica", e.instance ? json::value(e.instance.value()) : json::value(nullptr)},
                      {"node", or_null(e.node.str())},
                      {"devices", std::move(devices)},
                      {"way", e.way ? json::value(to_string(*e.way)) : json::value(nullptr)},
                      {"why", or_null(e.why)},
                      {"displaces", std::move(displaced)},
                      {"priority", to_string(e.priority)},
                      {"queued_before", e.queued_before},
                      {"first_token_ms", refused ? json::value(nullptr) : json::value(base::to_ms(e.first_token))},
                      {"at_least", e.at_least},
                      {"parts", std::move(parts)},
                      {"refused_after_ms", base::to_ms(e.refused_after)},
                      {"refusal", or_null(e.refusal)},
                      {"retry_after_ms", e.retry_after > base::Duration::zero() ? json::value(base::to_ms(e.retry_after)) : json::value(nullptr)}};
  if (runs != name) answer["base"] = base::public_name(runs);
  co_await respond_json(exchange, 200, answer);
}

}  // namespace thaw::gateway::admin
