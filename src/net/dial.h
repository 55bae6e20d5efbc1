#pragma once

#include <memory>
#include <string>

#include "base/endpoint.h"
#include "base/result.h"

namespace thaw::net {

/// The problem: an engine in a gVisor sandbox answers on TCP in a network namespace of its own, where nothing of the
/// host is, and whoever talks to it must have a socket from there. A socket stays in the namespace in which it was
/// made, so the calling thread enters it for that one system call.
///
/// Holds the namespace open, so that its path cannot come to mean another sandbox's meanwhile. Immutable; any thread
/// (each thread enters and leaves for itself). Needs CAP_SYS_ADMIN for TCP endpoints in another namespace than its own.
class Dialer {
 public:
  /// Fails with invalid for an endpoint that cannot be dialled (a Unix path of more than 107 bytes), io when the
  /// namespace is gone.
  static base::Result<Dialer> open(const base::Endpoint& endpoint);
  ~Dialer();
  Dialer(Dialer&& other) noexcept;
  Dialer& operator=(Dialer&& other) noexcept;
  Dialer(const Dialer&) = delete;
  Dialer& operator=(const Dialer&) = delete;

  /// A non-blocking, close-on-exec socket whose connection is made (Unix) or under way (TCP: it becomes writable when
  /// it is made, and reading tells why not). Never waits: a full Unix backlog is an error (EAGAIN) like any other.
  [[nodiscard]] base::Result<int> connect() const;

 private:
  explicit Dialer(base::Endpoint endpoint) : endpoint_(std::move(endpoint)) {}
  [[nodiscard]] base::Result<int> socket_in_namespace() const;

  base::Endpoint endpoint_;
  int namespace_ = -1;  ///< TCP: the engine's
  int home_ = -1;       ///< TCP: this process's own
  bool at_home_ = false;  ///< the two are the same: nothing to enter, no privilege needed
};

}  // namespace thaw::net
