#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "gateway/admin.h"
#include "base/revision.h"
#include "gateway/server.h"

namespace thaw::gateway::admin {
namespace {

namespace json = boost::json;

constexpr base::Duration kLookInterval = base::Millis(50);

json::value text_or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(text);
}

std::string line_of(const controller::FileVerdict& verdict) {
  return json::serialize(json::object{{"path", verdict.path},
                                      {"outcome", to_string(verdict.outcome)},
                                      {"bytes", verdict.bytes},
                                      {"sha256", text_or_null(verdict.sha256)},
                                      {"recorded_sha256", text_or_null(verdict.recorded_sha256)},
                                      {"detail", verdict.detail}}) +
         "\n";
}

/// The last line: whether all is well.
std::string line_of(const controller::Verification& verification, const std::string& model) {
  bool good = verification.done && verification.status.ok();
  for (const auto& verdict : verification.verdicts) good = good && verdict.good();
  json::object o{{"model", model}, {"ok", good}, {"error", nullptr}};
  if (!verification.done)
    o["error"] = "the server is shutting down";
  else if (!verification.status.ok())
    o["error"] = verification.status.error().message;
  return json::serialize(o) + "\n";
}

}  // namespace

/// A line a file as each is through, since big models take minutes.
net::Task<void> verify_model(Server& server, Exchange& exchange) {
  const base::ModelName name = server.services().rollouts.serving(exchange.model());
  if (server.services().controller.find(name) == nullptr) {
    co_await respond_no_such_model(exchange);
    co_return;
  }
  const auto verification = server.services().model_files.verify(name);
  if (!verification.ok()) {
    ApiError error = from_error(verification.error());
    if (verification.error().kind == base::ErrorKind::exhausted) {
      error.status = 429;
      error.code = "too_many_verifications";
    }
    co_await exchange.respond_error(error);
    co_return;
  }
  std::string head;
  exchange.begin_stream(head, 200, "application/x-ndjson", "Cache-Control: no-cache\r\n");
  co_await exchange.send(head);
  std::size_t told = 0;
  for (;;) {
    const controller::Verification& now = **verification;
    for (; told < now.verdicts.size(); ++told) co_await exchange.send_chunk(line_of(now.verdicts[told]));
    if (now.done || exchange.gone() || server.draining()) break;
    co_await net::SleepUntil(server.loop(), server.loop().now() + kLookInterval);
  }
  co_await exchange.send_chunk(line_of(**verification, base::public_model(name)));
  co_await exchange.end_stream();
}

}  // namespace thaw::gateway::admin
