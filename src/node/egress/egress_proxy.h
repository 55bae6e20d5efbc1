#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/result.h"
#include "base/time.h"
#include "node/egress/egress_policy.h"
#include "node/sandbox/fd.h"

namespace thaw::node {

/// Threads that each serve one connection and end by themselves, also where a resolver hangs. Waits for all of them at its end. Any thread.
class ConnectionThreads {
 public:
  static constexpr std::size_t kMax = 256;  ///< on one node
  ConnectionThreads() = default;
  ~ConnectionThreads();
  ConnectionThreads(const ConnectionThreads&) = delete;
  ConnectionThreads& operator=(const ConnectionThreads&) = delete;

  /// False when kMax are at work.
  bool run(std::function<void()> work);

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  std::size_t running_ = 0;
};

/// Something that a client wanted to reach and may not.
struct EgressRefusal {
  std::string target;  ///< "host:port", as it was asked for
  std::string why;
};

struct EgressCounts {
  std::atomic<std::uint64_t> connected{0}, refused{0}, failed{0}, bytes_out{0}, bytes_in{0};
};

/// The only way out of a namespace without a network: an HTTP proxy (CONNECT, and http:// requests) whose listening socket was made in there, while
/// all else of it is the node's. What is listened on cannot be reached from anywhere else, and what it connects to is decided here (egress_policy.h).
///
///     engine ── 127.0.0.1:3128 ──┃ namespace ┃── EgressProxy ── resolve, judge, connect ── the world
///
/// Bounded: kMaxConnections at once, kHead for a request's head, kConnect for each address, kIdle without a byte. A refusal is a 403 that says why.
class EgressProxy {
 public:
  static constexpr std::size_t kMaxConnections = 32;
  static constexpr std::size_t kMaxAddresses = 8;  ///< of one name, that are tried
  static constexpr auto kHead = base::Seconds(15);
  static constexpr auto kConnect = base::Seconds(10);
  static constexpr auto kIdle = base::Seconds(600);

  struct Options {
    EgressPolicy policy;
    /// Told of what was refused, at most once a minute for one target; on a thread of the proxy's. May be empty.
    std::function<void(const EgressRefusal&)> on_refusal = {};
    std::shared_ptr<EgressCounts> counts = std::make_shared<EgressCounts>();
    /// All connections lead to this "address:port" of the host's, without a word of HTTP.
    std::optional<std::pair<std::string, std::uint16_t>> only_target = {};
    /// Addresses of a name; absent: the system's resolver. For tests.
    std::function<std::vector<sockaddr_storage>(const std::string& host, std::uint16_t port)> resolve = {};
  };

  /// `listener` listens already. `threads` outlives the proxy.
  static base::Result<std::unique_ptr<EgressProxy>> start(Fd listener, Options options, ConnectionThreads& threads);
  /// Cuts what is open.
  ~EgressProxy();
  EgressProxy(const EgressProxy&) = delete;
  EgressProxy& operator=(const EgressProxy&) = delete;

  /// Of the last refusal; empty: there was none.
  [[nodiscard]] std::string last_refusal() const;
  /// The same of what was allowed and could not be reached.
  [[nodiscard]] std::string last_failure() const;

 private:
  struct State;
  class Connection;
  EgressProxy(Fd listener, Fd stop, std::shared_ptr<State> state, ConnectionThreads& threads);
  void accept_loop();

  Fd listener_, stop_;
  std::shared_ptr<State> state_;
  ConnectionThreads& threads_;
  std::thread thread_;
};

/// A socket that listens on `ipv4` in the network namespace that the file names ("/proc/PID/ns/net"). Needs CAP_SYS_ADMIN.
base::Result<Fd> listen_in_namespace(const std::string& namespace_path, const std::string& ipv4, std::uint16_t port);
/// The same in the calling thread's namespace.
base::Result<Fd> listen_here(const std::string& ipv4, std::uint16_t port);

}  // namespace thaw::node
