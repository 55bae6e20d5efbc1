#pragma once

#include "gateway/exchange.h"
#include "net/task.h"
#include "node/garbage.h"

#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

namespace thaw::gateway {
class Server;
}

/// The admin API (docs/admin-api.md) and what monitors call: handlers of their routes.
namespace thaw::gateway::admin {

net::Task<void> healthz(Server& server, Exchange& exchange);  ///< 200 while the process serves at all
net::Task<void> readyz(Server& server, Exchange& exchange);   ///< 503 while draining
net::Task<void> metrics(Server& server, Exchange& exchange);
net::Task<void> engine_metrics(Server& server, Exchange& exchange);
net::Task<void> status(Server& server, Exchange& exchange);

net::Task<void> list_models(Server& server, Exchange& exchange);
net::Task<void> show_model(Server& server, Exchange& exchange);
net::Task<void> deploy_model(Server& server, Exchange& exchange);
net::Task<void> remove_model(Server& server, Exchange& exchange);
net::Task<void> stop_model(Server& server, Exchange& exchange);
net::Task<void> verify_model(Server& server, Exchange& exchange);
net::Task<void> evict_model(Server& server, Exchange& exchange);
net::Task<void> model_logs(Server& server, Exchange& exchange);
net::Task<void> model_events(Server& server, Exchange& exchange);   ///< ?after=SEQ; ?follow=1: an object a line as they happen
net::Task<void> explain_model(Server& server, Exchange& exchange);  ///< what would become of a request now

net::Task<void> list_revisions(Server& server, Exchange& exchange);
net::Task<void> rollback_model(Server& server, Exchange& exchange);  ///< ?to=N
net::Task<void> roll_out_model(Server& server, Exchange& exchange);  ///< ?to=N&percent=P

net::Task<void> freeze_model(Server& server, Exchange& exchange);
net::Task<void> wake_model(Server& server, Exchange& exchange);
net::Task<void> snapshot_model(Server& server, Exchange& exchange);
net::Task<void> list_images(Server& server, Exchange& exchange);
net::Task<void> remove_image(Server& server, Exchange& exchange);

net::Task<void> cordon_node(Server& server, Exchange& exchange);    ///< ?device=ID: that one alone
net::Task<void> uncordon_node(Server& server, Exchange& exchange);
net::Task<void> drain_node(Server& server, Exchange& exchange);

net::Task<void> list_pulls(Server& server, Exchange& exchange);
net::Task<void> start_pull(Server& server, Exchange& exchange);
net::Task<void> show_pull(Server& server, Exchange& exchange);
net::Task<void> cancel_pull(Server& server, Exchange& exchange);
net::Task<void> show_store(Server& server, Exchange& exchange);
net::Task<void> collect_store(Server& server, Exchange& exchange);  ///< ?dry_run=1: only says what would go

net::Task<void> list_instances(Server& server, Exchange& exchange);
net::Task<void> show_request(Server& server, Exchange& exchange);
net::Task<void> usage(Server& server, Exchange& exchange);           ///< ?by=model|tenant|day|key&since=DAY&until=DAY
net::Task<void> usage_requests(Server& server, Exchange& exchange);  ///< ?after=SEQ&limit=N and the period
net::Task<void> erase_tenant(Server& server, Exchange& exchange);

net::Task<void> reload_server(Server& server, Exchange& exchange);
net::Task<void> whoami(Server& server, Exchange& exchange);
net::Task<void> list_routes(Server& server, Exchange& exchange);
net::Task<void> show_openapi(Server& server, Exchange& exchange);
net::Task<void> list_keys(Server& server, Exchange& exchange);
net::Task<void> create_key(Server& server, Exchange& exchange);
net::Task<void> revoke_key(Server& server, Exchange& exchange);
net::Task<void> rotate_key(Server& server, Exchange& exchange);
net::Task<void> list_tenants(Server& server, Exchange& exchange);
net::Task<void> create_tenant(Server& server, Exchange& exchange);
net::Task<void> show_tenant(Server& server, Exchange& exchange);
net::Task<void> change_tenant(Server& server, Exchange& exchange);
net::Task<void> remove_tenant(Server& server, Exchange& exchange);

// --- for the handlers above

/// Brings what the controller knows of weights in memory up to date, unless it was less than a second ago.
net::Task<void> look_at_cache(Server& server);
/// An unknown model's answer, in the client's words; another tenant's gets the same.
net::Task<void> respond_no_such_model(Exchange& exchange);
net::Task<void> respond_json(Exchange& exchange, int status, const boost::json::object& object);
/// What was found that no model has, and removed unless it is a `dry_run`; `of`: "pulled files", for the log.
net::Task<void> respond_collected(Exchange& exchange, bool dry_run, const std::vector<node::Garbage>& garbage, std::string_view of);
/// A whole number of the query string; nothing when it is absent.
base::Result<std::optional<std::uint32_t>> number_in_query(const Exchange& exchange, std::string_view name, std::uint32_t least, std::uint32_t most);
/// "revision", and "rollout" while one is under way or after one that failed: of a model, by its own name or one that its engines run under.
void add_rollout_of(Server& server, const base::ModelName& model, boost::json::object& into);
/// "host_cache" of answers.
boost::json::object describe_cache(Server& server);

}  // namespace thaw::gateway::admin
