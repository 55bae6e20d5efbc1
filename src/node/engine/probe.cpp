#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <string_view>

#include "base/endpoint.h"
#include "net/dial.h"
#include "node/engine/engine.h"
#include "node/sandbox/fd.h"

namespace thaw::node {
namespace {

using Clock = std::chrono::steady_clock;

// Without "Connection: close": whoever closes a TCP connection first keeps its remains for a minute (TIME_WAIT), and a
// gVisor sandbox in which there are some cannot be checkpointed.
constexpr std::string_view kRequestEnd = " HTTP/1.1\r\nHost: engine\r\n\r\n";
constexpr std::string_view kUsualPath = "/health";
constexpr std::size_t kStatusBytes = sizeof("HTTP/1.1 200") - 1;

/// False when the deadline comes first.
bool wait_for(int fd, short events, Clock::time_point deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd entry{fd, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::min<std::int64_t>(left, 60'000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

bool send_request(int fd, std::string_view path, Clock::time_point deadline) {
  const std::string request = "GET " + std::string(path) + std::string(kRequestEnd);
  std::string_view rest = request;
  while (!rest.empty()) {
    const ssize_t sent = ::send(fd, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      rest.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      if (!wait_for(fd, POLLOUT, deadline)) return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

/// The answer's status, or 0 when there was none by the deadline.
int read_status(int fd, Clock::time_point deadline) {
  std::array<char, kStatusBytes> line{};
  std::size_t have = 0;
  while (have < line.size()) {
    const ssize_t got = ::recv(fd, line.data() + have, line.size() - have, 0);
    if (got > 0) {
      have += static_cast<std::size_t>(got);
    } else if (got < 0 && errno == EAGAIN) {
      if (!wait_for(fd, POLLIN, deadline)) return 0;
    } else if (got == 0 || errno != EINTR) {
      return 0;
    }
  }
  const std::string_view text(line.data(), line.size());
  if (!text.starts_with("HTTP/1.")) return -1;
  int status = 0;
  for (const char c : text.substr(9)) {
    if (c < '0' || c > '9') return -1;
    status = status * 10 + (c - '0');
  }
  return status;
}

/// The status of the answer; 0 when nobody listens or answers in time, negative when it is no HTTP.
base::Result<int> ask_status(const std::string& address, std::string_view path, base::Duration timeout) {
  THAW_ASSIGN_OR_RETURN(const base::Endpoint endpoint, base::parse_endpoint(address));
  THAW_ASSIGN_OR_RETURN(const net::Dialer dialer, net::Dialer::open(endpoint));
  const Clock::time_point deadline = Clock::now() + timeout;
  // Refused, or a full backlog (EAGAIN), is "not yet".
  const auto connected = dialer.connect();
  if (!connected.ok()) return 0;
  const Fd socket(*connected);
  const linger at_once{1, 0};  // closing is a reset: nothing of the connection is left on the engine's side
  if (!endpoint.ipv4.empty()) ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  if (!send_request(socket.get(), path, deadline)) return 0;
  return read_status(socket.get(), deadline);
}

}  // namespace

base::Result<Readiness> probe_model(const spec::ModelSpec& model, const std::string& address, base::Duration timeout) {
  if (model.engine != spec::EngineKind::command) return probe_ready(address, timeout);
  THAW_ASSIGN_OR_RETURN(const int status, ask_status(address, model.ready_path, timeout));
  return status == 200 ? Readiness::yes : Readiness::no;
}

base::Result<Readiness> probe_ready(const std::string& address, base::Duration timeout) {
  THAW_ASSIGN_OR_RETURN(const int status, ask_status(address, kUsualPath, timeout));
  switch (status) {
    case 200:
      return Readiness::yes;
    case 0:
    case 503:
      return Readiness::no;
    default:
      return Readiness::failed;
  }
}

}  // namespace thaw::node
