// What the admin API's handlers have in common.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "base/units.h"
#include "gateway/admin.h"
#include "gateway/server.h"

namespace thaw::gateway::admin {

net::Task<void> respond_json(Exchange& exchange, int status, const boost::json::object& object) {
  const std::string body = boost::json::serialize(object);
  co_await exchange.respond(status, "application/json", body);
}

net::Task<void> respond_collected(Exchange& exchange, bool dry_run, const std::vector<node::Garbage>& garbage, std::string_view of) {
  boost::json::array removed;
  std::uint64_t freed_bytes = 0;
  for (const node::Garbage& one : garbage) {
    removed.push_back(boost::json::object{{"what", one.what}, {"bytes", one.bytes}});
    freed_bytes += one.bytes;
  }
  if (!dry_run && freed_bytes > 0) spdlog::info("{}: {} that no model has were removed", of, base::format_bytes(freed_bytes));
  const boost::json::object answer{{"dry_run", dry_run}, {"removed", std::move(removed)}, {"freed_bytes", freed_bytes}};
  co_await respond_json(exchange, 200, answer);
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
