#include <spdlog/spdlog.h>

#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "gateway/admin.h"
#include "base/revision.h"
#include "gateway/server.h"

namespace thaw::gateway::admin {
namespace {

namespace json = boost::json;

/// For one answer; weights that it leaves no time for keep the numbers of the last look.
constexpr auto kLookAtMost = base::Millis(50);

}  // namespace

net::Task<void> look_at_cache(Server& server) {
  Services& services = server.services();
  controller::CacheKeeper* const cache = services.controller.cache();
  if (cache == nullptr || !cache->look_is_due()) co_return;
  node::Agent& node = services.node;
  const std::vector<std::string> sources = cache->book().sources();
  const auto states = co_await services.files_worker.run([&] { return node.look_at_weights(sources, kLookAtMost); });
  cache->keep([&](auto& book, auto now, auto& out) { book.weights_states(states, now, out); });
}

json::object describe_cache(Server& server) {
  controller::CacheKeeper* const cache = server.services().controller.cache();
  const control::HostCacheView view = cache == nullptr ? control::HostCacheView{} : cache->book().view();
  return {{"cached_bytes", view.cached_bytes},
          {"budget_bytes", view.budget_bytes},
          {"evictions", view.evictions},
          {"evicted_bytes", view.evicted_bytes},
          {"failed_evictions", view.failed_evictions}};
}

net::Task<void> evict_model(Server& server, Exchange& exchange) {
  Services& services = server.services();
  const base::ModelName name = server.services().rollouts.serving(exchange.model());
  const auto* model = services.controller.find(name);
  if (model == nullptr) {
    co_await respond_no_such_model(exchange);
    co_return;
  }
  node::Agent& node = services.node;
  const std::string source = model->spec.source.path;
  const auto evicted = co_await services.files_worker.run([&] { return node.evict_weights(source); });
  if (!evicted.ok()) {
    ApiError error = from_error(evicted.error());
    if (error.status == 409) error.message = base::public_model(name) + ": " + error.message + "; `thaw stop` what runs first";
    co_await exchange.respond_error(error);
    co_return;
  }
  services.controller.node_event(*evicted);
  const json::object answer{{"name", base::public_model(name)},
                            {"freed_bytes", evicted->freed_bytes},
                            {"resident_bytes", evicted->resident_bytes},
                            {"why_left", evicted->why_left}};
  const std::string body = json::serialize(answer);
  co_await exchange.respond(200, "application/json", body);
}

}  // namespace thaw::gateway::admin
