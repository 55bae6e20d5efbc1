#pragma once

#include <optional>

#include <boost/json/object.hpp>

#include "gateway/api_error.h"
#include "gateway/exchange.h"
#include "net/task.h"
#include "node/agent.h"
#include "observe/metrics.h"
#include "spec/model_spec.h"

namespace thaw::gateway {

class Server;

/// The answer to a request for a model whose container image is not on the node yet; nothing for others.
std::optional<ApiError> image_not_here(Server& server, const spec::ModelSpec& spec);

namespace admin {

void add_egress_levels(Server& server, observe::Levels& levels);

/// A tag is resolved once, at deploy: sets spec.image_digest. An error is the answer to the deploy.
net::Task<std::optional<ApiError>> pin_container_image(Server& server, spec::ModelSpec& spec);
/// Has the node fetch it, if it is not there. What goes wrong is seen in the model's state.
void want_container_image(node::Agent& node, const spec::ModelSpec& spec);
/// What the model's entry says of its image, and of the model's state while it is not there.
void add_container_image(Server& server, const spec::ModelSpec& spec, boost::json::object& model);

net::Task<void> list_container_images(Server& server, Exchange& exchange);     ///< GET /admin/v1/container-images
net::Task<void> collect_container_images(Server& server, Exchange& exchange);  ///< POST /admin/v1/container-images/gc

}  // namespace admin
}  // namespace thaw::gateway
