#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"

/// The problem: an engine that is refused a system call fails in its own words ("Operation not permitted"), or goes another way and says nothing; who
/// wants to run a new engine has to know which call it was. So in this mode the kernel asks somebody before it refuses
/// (SECCOMP_RET_USER_NOTIF, seccomp_unotify(2)): he writes the call down and refuses it all the same.
namespace thaw::node {

/// One kind of refusal, told once for each sandbox and program.
struct RefusedCall {
  std::string sandbox;  ///< its name ("b3")
  std::string program;  ///< as in /proc/PID/comm; empty when it has gone
  std::string call;     ///< "ptrace"; "number 451" without libseccomp
  std::int64_t pid = 0;  ///< on the host
};

/// Takes over, at a Unix socket, the refusals of sandboxes whose profile names it (SeccompOptions::report_socket): runc sends the kernel's descriptor
/// there when it has made one. Each call is answered with EPERM, whatever it was. Threads: one of its own, which calls the sink.
/// Lifecycle: outlives the sandboxes; without it the kernel answers their refused calls with ENOSYS.
class Refusals {
 public:
  using Sink = std::function<void(const RefusedCall&)>;
  static constexpr std::size_t kMaxTold = 256;  ///< kinds told of one sandbox; more are refused and not told

  /// Makes the socket, replacing what is at the path.
  static base::Result<std::unique_ptr<Refusals>> open(const std::string& socket_path, Sink sink);
  ~Refusals();
  Refusals(const Refusals&) = delete;
  Refusals& operator=(const Refusals&) = delete;

  [[nodiscard]] const std::string& socket_path() const;

 private:
  struct Impl;
  explicit Refusals(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace thaw::node
