#include "node/egress/egress_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/egress/proxy_request.h"
#include "node/pull/address_rule.h"
#include "node/sandbox/clock.h"
#include "spec/problems.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr int kBacklog = 64;
constexpr std::size_t kBuffer = 64ULL << 10;
constexpr auto kTellAgain = base::Seconds(60);
constexpr std::size_t kMaxTold = 256;  ///< targets that are remembered
constexpr int kOnceAMinute_ms = 60'000;

std::vector<sockaddr_storage> resolve_by_system(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return {};
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, &::freeaddrinfo);
  std::vector<sockaddr_storage> addresses;
  for (const addrinfo* one = found; one != nullptr && addresses.size() < EgressProxy::kMaxAddresses; one = one->ai_next) {
    sockaddr_storage address{};
    std::memcpy(&address, one->ai_addr, std::min<std::size_t>(one->ai_addrlen, sizeof address));
    addresses.push_back(address);
  }
  return addresses;
}

const sockaddr& plain(const sockaddr_storage& address) {
  return reinterpret_cast<const sockaddr&>(address);
}

sockaddr_storage socket_address(const std::array<std::uint8_t, 16>& bytes, std::uint16_t port) {
  sockaddr_storage out{};
  const std::array<std::uint8_t, 12> mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (std::equal(mapped.begin(), mapped.end(), bytes.begin())) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&in.sin_addr, bytes.data() + mapped.size(), 4);
    std::memcpy(&out, &in, sizeof in);
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    std::memcpy(&in.sin6_addr, bytes.data(), bytes.size());
    std::memcpy(&out, &in, sizeof in);
  }
  return out;
}

bool wait_for(int fd, short events, base::Duration timeout) {
  pollfd entry{fd, events, 0};
  for (const base::TimePoint until = now() + timeout;;) {
    const base::Duration left = std::max(until - now(), base::Duration::zero());
    const int ready = ::poll(&entry, 1, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count()));
    if (ready >= 0 || errno != EINTR) return ready > 0;
  }
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (sent < 0 && errno == EAGAIN) {
      if (!wait_for(fd, POLLOUT, EgressProxy::kHead)) return false;
    } else if (sent < 0 && errno != EINTR) {
      return false;
    }
  }
  return true;
}

/// Connected and non-blocking, or errno's text.
base::Result<Fd> connect_to(const sockaddr_storage& address) {
  Fd fd(::socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return base::errno_error("cannot make a socket", errno);
  const socklen_t size = address.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (::connect(fd.get(), &plain(address), size) != 0) {
    if (errno != EINPROGRESS) return base::errno_error("cannot connect", errno);
    if (!wait_for(fd.get(), POLLOUT, EgressProxy::kConnect)) return Error{ErrorKind::timeout, "no answer"};
    int failed = 0;
    socklen_t length = sizeof failed;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &failed, &length) != 0 || failed != 0) return base::errno_error("cannot connect", failed);
  }
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

}  // namespace

ConnectionThreads::~ConnectionThreads() {
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [this] { return running_ == 0; });
}

bool ConnectionThreads::run(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (running_ >= kMax) return false;
    ++running_;
  }
  std::thread([this, work = std::move(work)]() mutable {
    work();
    work = nullptr;  // what it holds goes before this object may
    const std::lock_guard lock(mutex_);
    --running_;
    ended_.notify_all();
  }).detach();
  return true;
}

/// Shared with the connections, which may outlive the proxy by a moment.
struct EgressProxy::State {
  explicit State(Options given) : options(std::move(given)) {}

  Options options;
  mutable std::mutex mutex;
  std::set<int> open;  ///< sockets to cut; closed by their connections
  std::size_t connections = 0;
  bool stopping = false;
  std::string last_refusal, last_failure;
  std::map<std::string, base::TimePoint> told;

  /// False: it is over, and the socket is not to be used.
  bool hold(int fd) {
    const std::lock_guard lock(mutex);
    if (stopping) return false;
    open.insert(fd);
    return true;
  }
  void let_go(int fd) {
    const std::lock_guard lock(mutex);
    open.erase(fd);
  }
  void fail(const std::string& why) {
    ++options.counts->failed;
    const std::lock_guard lock(mutex);
    last_failure = why;
  }
  void refuse(const EgressRefusal& refusal) {
    ++options.counts->refused;
    {
      const std::lock_guard lock(mutex);
      last_refusal = refusal.why;
      const base::TimePoint at = now();
      if (told.size() >= kMaxTold) std::erase_if(told, [at](const auto& one) { return at - one.second >= kTellAgain; });
      const auto found = told.find(refusal.target);
      if (found != told.end() && at - found->second < kTellAgain) return;
      if (found == told.end() && told.size() >= kMaxTold) return;  // counted, and no more
      told[refusal.target] = at;
    }
    if (options.on_refusal) options.on_refusal(refusal);
  }
};

/// One client, on a thread of its own.
class EgressProxy::Connection {
 public:
  Connection(std::shared_ptr<State> state, Fd client) : state_(std::move(state)), client_(std::move(client)) {}
  ~Connection() {
    for (const Fd* fd : {&client_, &server_})
      if (*fd) state_->let_go(fd->get());
    const std::lock_guard lock(state_->mutex);
    --state_->connections;
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void serve() {
    if (!state_->hold(client_.get())) return;
    std::string first;  // for the server, from the client
    if (const auto& only = state_->options.only_target) {
      const auto address = spec::parse_address(only->first);
      auto connected = address.ok() ? connect_to(socket_address(*address, only->second)) : base::Result<Fd>(address.error());
      if (!connected.ok() || !take_server(std::move(connected).value())) return;
    } else if (!open(first)) {
      return;
    }
    ++state_->options.counts->connected;
    if (!first.empty() && !send_all(server_.get(), first)) return;
    relay();
  }

 private:
  bool take_server(Fd fd) {
    server_ = std::move(fd);
    return state_->hold(server_.get());
  }

  void answer(int status, std::string_view why) {
    const std::string body = std::string(why) + "\n";
    send_all(client_.get(), fmt::format("HTTP/1.1 {} {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", status,
                                        status == 403   ? "Forbidden"
                                        : status == 400 ? "Bad Request"
                                                        : "Bad Gateway",
                                        body.size(), body));
  }

  /// Reads the request and makes its connection. `first`: what is to be sent there before all else.
  bool open(std::string& first) {
    std::string data;
    ProxyRequest request;
    net::HeadError error;
    for (const base::TimePoint until = now() + kHead;;) {
      const net::Parse parsed = data.empty() ? net::Parse::more : read_proxy_request(data, request, error);
      if (parsed == net::Parse::done) break;
      if (parsed == net::Parse::bad) {
        answer(400, error.message);
        return false;
      }
      std::array<char, 4096> chunk{};
      const base::Duration left = until - now();
      if (left <= base::Duration::zero() || !wait_for(client_.get(), POLLIN, left)) return false;
      const ssize_t got = ::recv(client_.get(), chunk.data(), chunk.size(), 0);
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got <= 0) return false;
      data.append(chunk.data(), static_cast<std::size_t>(got));
    }
    auto connected = reach(request);
    if (!connected.ok()) {
      const bool denied = connected.error().kind == ErrorKind::denied;
      if (denied)
        state_->refuse({fmt::format("{}:{}", spec::printable(request.host), request.port), connected.error().message});
      else
        state_->fail(connected.error().message);
      answer(denied ? 403 : 502, connected.error().message);
      return false;
    }
    if (!take_server(std::move(connected).value())) return false;
    if (request.tunnel && !send_all(client_.get(), "HTTP/1.1 200 Connection established\r\n\r\n")) return false;
    first = request.passed_on + data.substr(request.bytes);
    return true;
  }

  [[nodiscard]] base::Result<Fd> reach(const ProxyRequest& request) const {
    const EgressPolicy& policy = state_->options.policy;
    THAW_RETURN_IF_ERROR(policy.check_host(request.host, request.port));
    std::vector<sockaddr_storage> addresses;
    std::string host = request.host;
    if (const auto literal = spec::parse_address(request.host); literal.ok()) {
      addresses.push_back(socket_address(*literal, request.port));
    } else {
      THAW_ASSIGN_OR_RETURN(host, spec::parse_host_name(request.host));
      addresses = state_->options.resolve ? state_->options.resolve(host, request.port) : resolve_by_system(host, request.port);
      if (addresses.empty()) return Error{ErrorKind::unavailable, fmt::format("the node cannot resolve {}", host)};
    }
    std::string refused;
    base::Error last{ErrorKind::unavailable, ""};
    for (const sockaddr_storage& address : addresses) {
      if (!policy.allows(host, request.port, plain(address))) {
        refused = pull::format_address(plain(address));
        continue;
      }
      auto connected = connect_to(address);
      if (connected.ok()) return connected;
      last = {ErrorKind::unavailable, fmt::format("cannot reach {} ({}): {}", host, pull::format_address(plain(address)), connected.error().message)};
    }
    if (last.message.empty())
      return Error{ErrorKind::denied, host == refused ? fmt::format("{} is a private address that is not listed", host)
                                                      : fmt::format("{} is at {}, a private address that is not listed by itself", host, refused)};
    return last;
  }

  /// Bytes both ways, until both sides have said all, or one is silent for too long.
  void relay() {
    struct Way {
      int from, to;
      std::atomic<std::uint64_t>& count;
      std::string held;  ///< read and not yet written
      bool read_ended = false, done = false;
    };
    EgressCounts& counts = *state_->options.counts;
    std::array<Way, 2> ways{Way{client_.get(), server_.get(), counts.bytes_out, {}}, Way{server_.get(), client_.get(), counts.bytes_in, {}}};
    std::vector<char> buffer(kBuffer);
    while (!ways[0].done || !ways[1].done) {
      std::array<pollfd, 2> entries{pollfd{client_.get(), 0, 0}, pollfd{server_.get(), 0, 0}};
      for (std::size_t i = 0; i < 2; ++i) {
        if (ways.at(i).done) continue;
        if (!ways.at(i).held.empty())
          entries.at(1 - i).events |= POLLOUT;
        else
          entries.at(i).events |= POLLIN;
      }
      const int ready = ::poll(entries.data(), entries.size(), static_cast<int>(duration_cast<std::chrono::milliseconds>(kIdle).count()));
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0) return;
      for (Way& way : ways)
        if (!way.done && !step(way, buffer)) return;
      // Gone altogether: there is nobody to write to, and poll() would not wait any more.
      for (std::size_t i = 0; i < 2; ++i)
        if ((entries.at(i).revents & POLLERR) != 0 || ((entries.at(i).revents & POLLHUP) != 0 && ways.at(i).done)) return;
    }
  }

  template <typename Way>
  static bool step(Way& way, std::vector<char>& buffer) {
    if (way.held.empty() && !way.read_ended) {
      const ssize_t got = ::recv(way.from, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got < 0 && errno != EAGAIN && errno != EINTR) return false;
      if (got == 0) way.read_ended = true;
      if (got > 0) {
        way.held.assign(buffer.data(), static_cast<std::size_t>(got));
        way.count += static_cast<std::uint64_t>(got);
      }
    }
    if (!way.held.empty()) {
      const ssize_t sent = ::send(way.to, way.held.data(), way.held.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN && errno != EINTR) return false;
      if (sent > 0) way.held.erase(0, static_cast<std::size_t>(sent));
    }
    if (way.held.empty() && way.read_ended) {
      way.done = true;
      ::shutdown(way.to, SHUT_WR);
    }
    return true;
  }

  std::shared_ptr<State> state_;
  Fd client_, server_;
};

EgressProxy::EgressProxy(Fd listener, Fd stop, std::shared_ptr<State> state, ConnectionThreads& threads)
    : listener_(std::move(listener)), stop_(std::move(stop)), state_(std::move(state)), threads_(threads), thread_([this] { accept_loop(); }) {}

base::Result<std::unique_ptr<EgressProxy>> EgressProxy::start(Fd listener, Options options, ConnectionThreads& threads) {
  Fd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return base::errno_error("cannot make an event", errno);
  return std::unique_ptr<EgressProxy>(new EgressProxy(std::move(listener), std::move(stop), std::make_shared<State>(std::move(options)), threads));
}

EgressProxy::~EgressProxy() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    for (const int fd : state_->open) ::shutdown(fd, SHUT_RDWR);
  }
  const std::uint64_t one = 1;
  if (::write(stop_.get(), &one, sizeof one) != sizeof one) spdlog::error("cannot stop a proxy");
  thread_.join();
}

std::string EgressProxy::last_refusal() const {
  const std::lock_guard lock(state_->mutex);
  return state_->last_refusal;
}

std::string EgressProxy::last_failure() const {
  const std::lock_guard lock(state_->mutex);
  return state_->last_failure;
}

void EgressProxy::accept_loop() {
  for (;;) {
    std::array<pollfd, 2> entries{pollfd{listener_.get(), POLLIN, 0}, pollfd{stop_.get(), POLLIN, 0}};
    if (::poll(entries.data(), entries.size(), kOnceAMinute_ms) < 0 && errno != EINTR) return;
    if (entries[1].revents != 0) return;
    if (entries[0].revents == 0) continue;
    Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client) continue;
    {
      const std::lock_guard lock(state_->mutex);
      if (state_->connections >= kMaxConnections) continue;  // closed: the client may try again
      ++state_->connections;
    }
    // Counted down by its destructor, also when no thread takes it.
    auto connection = std::make_shared<Connection>(state_, std::move(client));
    threads_.run([connection] { connection->serve(); });
  }
}

base::Result<Fd> listen_here(const std::string& ipv4, std::uint16_t port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return base::errno_error("cannot make a socket", errno);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, ipv4.c_str(), &address.sin_addr);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || ::listen(fd.get(), kBacklog) != 0)
    return base::errno_error(fmt::format("cannot listen on {}:{} in a sandbox's network", ipv4, port), errno);
  return fd;
}

base::Result<Fd> listen_in_namespace(const std::string& namespace_path, const std::string& ipv4, std::uint16_t port) {
  const Fd space(::open(namespace_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!space) return base::errno_error("cannot open the network namespace " + namespace_path, errno);
  base::Result<Fd> result = Error{ErrorKind::internal, "not tried"};
  // On a thread that is spoilt for anything else.
  std::thread([&] {
    if (::setns(space.get(), CLONE_NEWNET) != 0)
      result = base::errno_error("cannot enter the network namespace " + namespace_path, errno);
    else
      result = listen_here(ipv4, port);
  }).join();
  return result;
}

}  // namespace thaw::node
