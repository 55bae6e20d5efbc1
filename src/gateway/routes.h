#pragma once

#include <span>
#include <string_view>

#include "gateway/access.h"
#include "gateway/dialect.h"
#include "gateway/exchange.h"
#include "net/task.h"

namespace thaw::gateway {

class Server;

/// One row of the route table. A pattern is a path in which at most one segment is "*".
struct Route {
  std::string_view method;
  std::string_view pattern;
  Rule rule{};
  net::Task<void> (*handler)(Server&, Exchange&) = nullptr;
  std::string_view action = {};  ///< its name in the audit log, "model.deploy": every route of the admin API has one
  Dialect dialect = Dialect::openai;
  BodyForm body = BodyForm::json;  ///< of requests to models
  bool every_engine = true;        ///< false: not all engines have it, and one that answers 404 has not

  /// Requests to models: counted against the tenant's quotas. The caller's own tenant's alone.
  [[nodiscard]] constexpr bool is_inference() const { return method == "POST" && action.empty(); }
  /// Changes something: recorded before it is carried out, and refused when that fails.
  [[nodiscard]] constexpr bool is_act() const { return !action.empty() && method != "GET"; }
};

/// The whole of what the server answers, most frequent first.
std::span<const Route> route_table();

/// Whether `path` matches; `parameter` gets what the * stands for.
bool matches(std::string_view pattern, std::string_view path, std::string_view& parameter);

}  // namespace thaw::gateway
