#include <algorithm>
#include <charconv>

#include "gateway/admin.h"
#include "gateway/admin_adapters.h"
#include "gateway/server.h"
#include "node/agent.h"
#include "node/logs/log_file.h"

namespace thaw::gateway::admin {
namespace {

constexpr std::size_t kDefaultTailLines = 100;
constexpr std::size_t kMaxTailLines = 100'000;
constexpr std::size_t kBytesPerLine = 256;  ///< generous: the last lines are cut out of so many bytes
constexpr base::Duration kLookInterval = base::Millis(200);

std::size_t tail_lines(const Exchange& exchange) {
  const std::string_view text = exchange.query("tail");
  std::size_t lines = kDefaultTailLines;
  std::from_chars(text.data(), text.data() + text.size(), lines);
  return std::min(lines, kMaxTailLines);
}

/// The last `lines` lines of `text`.
std::string_view last_lines(std::string_view text, std::size_t lines) {
  std::size_t at = text.size();
  if (at > 0 && text[at - 1] == '\n') --at;
  for (std::size_t seen = 0; at > 0; --at)
    if (text[at - 1] == '\n' && ++seen == lines) return text.substr(at);
  return lines == 0 ? std::string_view{} : text;
}

}  // namespace

net::Task<void> model_logs(Server& server, Exchange& exchange) {
  Services& services = server.services();
  const base::ModelName name = answers_for(server, exchange.model());
  const bool follow = exchange.query("follow") == "1";
  const std::size_t lines = tail_lines(exchange);
  if (services.controller.find(services.rollouts.serving(name)) == nullptr) {
    co_await respond_no_such_model(exchange);
    co_return;
  }
  node::LogFollower follower(node::log_path(server.config().data_dir, name), lines * kBytesPerLine);
  // All of what was asked for before anything of it goes out: lines that are written meanwhile push older ones out of the last N.
  std::string text = co_await services.files_worker.run([&follower, lines] {
    std::string all;
    for (std::string more = follower.read_more(); !more.empty() && all.size() <= lines * kBytesPerLine; more = follower.read_more()) all += more;
    return all;
  });
  std::string head;
  exchange.begin_stream(head, 200, "text/plain; charset=utf-8", "Cache-Control: no-cache\r\n");
  co_await exchange.send(head);
  co_await exchange.send_chunk(last_lines(text, lines));
  while (follow && !exchange.gone()) {
    text = co_await services.files_worker.run([&follower] { return follower.read_more(); });
    if (!text.empty()) {
      co_await exchange.send_chunk(text);
      continue;
    }
    if (server.draining()) break;
    co_await net::SleepUntil(server.loop(), server.loop().now() + kLookInterval);
  }
  co_await exchange.end_stream();
}

}  // namespace thaw::gateway::admin
