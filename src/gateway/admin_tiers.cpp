// Standby and images by hand.
#include <algorithm>

#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "gateway/admin.h"
#include "gateway/admin_adapters.h"
#include "base/revision.h"
#include "gateway/server.h"

namespace thaw::gateway::admin {
namespace {

namespace json = boost::json;

/// As elsewhere in the admin API: an unknown model has an answer of its own.
net::Task<void> refuse_model(Exchange& exchange, const base::Error& error) {
  if (error.kind == base::ErrorKind::not_found)
    co_await respond_no_such_model(exchange);
  else
    co_await exchange.respond_error(from_error(error));
}

json::object describe(const control::ImageView& view) {
  return {{"id", view.info.image.str()},
          {"model", base::public_model(view.info.model)},
          {"tenant", base::tenant_part(view.info.model)},
          {"node", view.node.str()},
          {"driver", to_string(view.info.driver)},
          {"bytes", view.info.bytes},
          {"device_bytes", view.info.device_bytes},
          {"created_unix_ms", view.info.created_unix_s * 1000},
          {"restores", view.restores},
          {"dropping", view.dropping}};
}

}  // namespace

net::Task<void> freeze_model(Server& server, Exchange& exchange) {
  if (const auto refused = refuse_adapter(server, exchange.model(), "freeze")) {
    co_await exchange.respond_error(*refused);
    co_return;
  }
  const auto frozen = server.services().controller.freeze(server.services().rollouts.serving(exchange.model()));
  if (!frozen.ok()) {
    co_await refuse_model(exchange, frozen.error());
    co_return;
  }
  const json::object answer{{"name", std::string(exchange.parameter())}, {"freezing", *frozen}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> wake_model(Server& server, Exchange& exchange) {
  if (const auto refused = refuse_adapter(server, exchange.model(), "wake")) {
    co_await exchange.respond_error(*refused);
    co_return;
  }
  const auto woken = server.services().controller.wake(server.services().rollouts.serving(exchange.model()));
  if (!woken.ok()) {
    co_await refuse_model(exchange, woken.error());
    co_return;
  }
  const json::object answer{{"name", std::string(exchange.parameter())}, {"waking", *woken}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> snapshot_model(Server& server, Exchange& exchange) {
  if (const auto refused = refuse_adapter(server, exchange.model(), "snapshot")) {
    co_await exchange.respond_error(*refused);
    co_return;
  }
  const auto begun = server.services().controller.snapshot(server.services().rollouts.serving(exchange.model()));
  if (!begun.ok()) {
    co_await refuse_model(exchange, begun.error());
    co_return;
  }
  const json::object answer{{"name", std::string(exchange.parameter())}, {"image", begun->str()}};
  co_await respond_json(exchange, 202, answer);
}

net::Task<void> list_images(Server& server, Exchange& exchange) {
  json::array images;
  for (const auto& view : server.services().controller.scheduler().images())
    if (exchange.sees(view.info.model)) images.push_back(describe(view));
  const json::object answer{{"images", std::move(images)}};
  co_await respond_json(exchange, 200, answer);
}

net::Task<void> remove_image(Server& server, Exchange& exchange) {
  const base::ImageId image{std::string(exchange.parameter())};
  const std::vector<control::ImageView> images = server.services().controller.scheduler().images();
  if (std::none_of(images.begin(), images.end(), [&](const auto& view) { return view.info.image == image && exchange.sees(view.info.model); })) {
    const ApiError error{404, "invalid_request_error", "not_found", "there is no image \"" + image.str() + "\"; `thaw images` lists them", {}, {}};
    co_await exchange.respond_error(error);
    co_return;
  }
  if (const base::Status dropped = server.services().controller.drop_image(image); !dropped.ok()) {
    co_await exchange.respond_error(from_error(dropped.error()));
    co_return;
  }
  const json::object answer{{"id", image.str()}, {"dropping", true}};
  co_await respond_json(exchange, 200, answer);
}

}  // namespace thaw::gateway::admin
