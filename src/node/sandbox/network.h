#pragma once

#include <memory>
#include <string>

#include "base/endpoint.h"
#include "base/result.h"
#include "node/sandbox/fd.h"

/// The problem: gVisor's network stack lives inside the sandbox and its checkpoints cannot hold host sockets, so its
/// engine must listen on TCP, and yet reach nobody. Two network namespaces and a cable between them, and nothing else
/// in either:
///
///        sandbox                                        node
///     ┌ inner ─────────────┐                     ┌ outer ─────────────────┐
///     │ eth0 169.254.77.2 ─┼─────── veth ────────┼─ node0 169.254.77.1    │ ◄── sockets that the node makes here
///     └────────────────────┘                     │ nobody listens but the │     (net/dial.h)
///                                                │ model's egress proxy;  │
///                                                │ no way on to the host  │
///                                                └────────────────────────┘
///
/// What comes out of the cable meets an empty namespace, not the host: there is no route, no filter to get wrong and no
/// address to hand out; every sandbox has the same two, which is also what lets a restored engine listen on.
namespace thaw::node {

inline constexpr const char* kInnerAddress = "169.254.77.2";
inline constexpr const char* kOuterAddress = "169.254.77.1";
inline constexpr std::uint16_t kInnerPort = 8080;

/// Owns the outer namespace and its door. The inner one, and the cable with it, goes with the last process and thread
/// in it.
class Network {
 public:
  /// Leaves the calling thread in the inner namespace, for what it will start (namespace_thread.h). Mounts the outer
  /// one's file at `door` (made here), so that it has a name. Blocking, some ms. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN.
  static base::Result<std::unique_ptr<Network>> make(const std::string& door);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  /// Where an engine that listens on kInnerAddress and kInnerPort answers.
  [[nodiscard]] base::Endpoint endpoint() const { return {"", kInnerAddress, kInnerPort, door_}; }

  /// Takes the door away; may be called again.
  [[nodiscard]] base::Status remove();

 private:
  explicit Network(std::string door) : door_(std::move(door)) {}
  [[nodiscard]] base::Status build();

  std::string door_;
  Fd outer_;
};

}  // namespace thaw::node
