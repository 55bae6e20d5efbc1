// Standby and images by hand.
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "gateway/admin.h"
#include "gateway/server.h"

namespace thaw::gateway::admin {
namespace {

namespace json = boost::json;

net::Task<void> respond_json(Exchange& exchange, int status, const json::object& object) {
  const std::string body = json::serialize(object);
  co_await exchange.respond(status, "application/json", body);
}

/// As elsewhere in the admin API: an unknown model has a code of its own.
net::Task<void> refuse_model(Exchange& exchange, const base::Error& error) {
  ApiError answer = from_error(error);
  if (error.kind == base::ErrorKind::not_found) answer.code = "model_not_found";
  co_await exchange.respond_error(answer);
}

json::object describe(const control::ImageView& view) {
  return {{"id", view.info.image.str()},
          {"model", view.info.model.str()},
          {"node", view.node.str()},
          {"driver", to_string(view.info.driver)},
          {"bytes", view.info.bytes},
          {"device_bytes", view.info.device_bytes},
          {"created_unix_ms", view.info.created_unix_s * 1000},
          {"restores", view.restores},
          {"dropping", view.dropping}};
}

base::ModelName model_of(const Exchange& exchange) { return base::ModelName{std::string(exchange.parameter())}; }

}  // namespace

net::Task<void> freeze_model(Server& server, Exchange& exchange) {
  const auto frozen = server.services().controller.freeze(model_of(exchange));
  if (!frozen.ok()) {
    co_await refuse_model(exchange, frozen.error());
    co_return;
  }
  const json::object answer{{"name", std::string(exchange.parameter())}, {"freezing", *frozen}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> wake_model(Server& server, Exchange& exchange) {
  const auto woken = server.services().controller.wake(model_of(exchange));
  if (!woken.ok()) {
    co_await refuse_model(exchange, woken.error());
    co_return;
  }
  const json::object answer{{"name", std::string(exchange.parameter())}, {"waking", *woken}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> snapshot_model(Server& server, Exchange& exchange) {
  const auto begun = server.services().controller.snapshot(model_of(exchange));
  if (!begun.ok()) {
    co_await refuse_model(exchange, begun.error());
    co_return;
  }
  const json::object answer{{"name", std::string(exchange.parameter())}, {"image", begun->str()}};
  co_await respond_json(exchange, 202, answer);
}

net::Task<void> list_images(Server& server, Exchange& exchange) {
  json::array images;
  for (const auto& view : server.services().controller.scheduler().images()) images.push_back(describe(view));
  const json::object answer{{"images", std::move(images)}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> remove_image(Server& server, Exchange& exchange) {
  const base::ImageId image{std::string(exchange.parameter())};
  if (const base::Status dropped = server.services().controller.drop_image(image); !dropped.ok()) {
    co_await exchange.respond_error(from_error(dropped.error()));
    co_return;
  }
  const json::object answer{{"id", image.str()}, {"dropping", true}};
  co_await respond_json(exchange, 200, answer);
}

}  // namespace thaw::gateway::admin
