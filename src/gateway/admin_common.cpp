// What the admin API's handlers have in common.
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "gateway/admin.h"
#include "gateway/server.h"

namespace thaw::gateway::admin {

net::Task<void> respond_json(Exchange& exchange, int status, const boost::json::object& object) {
  const std::string body = boost::json::serialize(object);
  co_await exchange.respond(status, "application/json", body);
}

net::Task<void> respond_no_such_model(Exchange& exchange) {
  const ApiError error{404,
                       "invalid_request_error",
                       "model_not_found",
                       "there is no model \"" + std::string(exchange.parameter()) + "\"; `thaw ls` lists them",
                       {},
                       {}};
  co_await exchange.respond_error(error);
}

}  // namespace thaw::gateway::admin
