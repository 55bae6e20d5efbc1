// Nodes and devices that people take out of service, and give back.
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "gateway/admin.h"
#include "gateway/server.h"

namespace thaw::gateway::admin {
namespace {

net::Task<void> set_duty(Server& server, Exchange& exchange, control::Duty duty) {
  const base::NodeName node{std::string(exchange.parameter())};
  const base::DeviceId device{std::string(exchange.query("device"))};
  const auto leaving = server.services().controller.set_duty(node, device, duty);
  if (!leaving.ok()) {
    co_await exchange.respond_error(from_error(leaving.error()));
    co_return;
  }
  boost::json::object answer{{"node", node.str()}, {"duty", to_string(duty)}, {"leaving", *leaving}};
  if (!device.empty()) answer["device"] = device.str();
  const std::string body = boost::json::serialize(answer);
  co_await exchange.respond(200, "application/json", body);
}

}  // namespace

net::Task<void> cordon_node(Server& server, Exchange& exchange) { return set_duty(server, exchange, control::Duty::cordoned); }

net::Task<void> uncordon_node(Server& server, Exchange& exchange) { return set_duty(server, exchange, control::Duty::open); }

net::Task<void> drain_node(Server& server, Exchange& exchange) { return set_duty(server, exchange, control::Duty::drained); }

}  // namespace thaw::gateway::admin
