#pragma once

#include <optional>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "gateway/api_error.h"
#include "gateway/exchange.h"
#include "net/task.h"
#include "observe/metrics.h"
#include "spec/model_spec.h"

namespace thaw::gateway {

class Server;

/// The answer to a request for a model whose files are on their way; nothing for every other model.
std::optional<ApiError> still_pulling(Server& server, const base::ModelName& name);

namespace admin {

/// What other handlers of the admin API say of models that are being pulled.
void add_pending_models(Server& server, const Exchange& exchange, boost::json::array& models);  ///< to those of the list
void add_pull_of(Server& server, const base::ModelName& name, boost::json::object& model);      ///< of one that serves meanwhile: "pull"
net::Task<bool> show_pending_model(Server& server, Exchange& exchange, base::ModelName name);   ///< false: it is none
/// Stores the spec, begins its pull and answers 202.
/// `takeover_timeout`: until it has to be ready where an older spec serves, from when its files are there.
net::Task<void> deploy_after_pull(Server& server, Exchange& exchange, spec::ModelSpec spec, base::Duration takeover_timeout);
void add_pull_levels(Server& server, observe::Levels& levels);

}  // namespace admin
}  // namespace thaw::gateway
