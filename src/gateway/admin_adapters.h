#pragma once

#include <optional>

#include <boost/json/object.hpp>

#include "gateway/api_error.h"
#include "net/task.h"
#include "node/agent.h"
#include "spec/model_spec.h"

namespace thaw::gateway {

class Server;

namespace admin {

/// Looks into an adapter that is being deployed: its base must be there, and its files, if they are, must fit that.
/// Sets the spec's engine, which is its base's, and where files are that were pulled. The answer, if it is refused;
/// `facts` are left empty while its files must be pulled first.
net::Task<std::optional<ApiError>> look_into_adapter(Server& server, spec::ModelSpec& spec, std::uint32_t percent,
                                                     node::ModelFacts& facts);
/// The answer to a deploy of a model whose adapters do not fit it any more, or that would be one thing and is the
/// other.
net::Task<std::optional<ApiError>> check_base(Server& server, const spec::ModelSpec& spec);

/// The answer to what is about replicas, of which an adapter has none. `command`: of the CLI, for its base.
std::optional<ApiError> refuse_adapter(Server& server, const base::ModelName& name, const char* command);
/// The answer to the removal of a model that has adapters.
std::optional<ApiError> refuse_base_of_adapters(Server& server, const base::ModelName& name);
/// Whose replicas answer for it: its base, of an adapter; else itself. Both without a revision.
base::ModelName answers_for(Server& server, const base::ModelName& name);

}  // namespace admin
}  // namespace thaw::gateway
