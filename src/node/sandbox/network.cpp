#include "node/sandbox/network.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

#include <spdlog/spdlog.h>

#include "node/sandbox/files.h"
#include "node/sandbox/netlink.h"

namespace thaw::node {
namespace {

constexpr const char* kOwnNamespace = "/proc/thread-self/ns/net";
constexpr const char* kInnerInterface = "eth0";
constexpr const char* kOuterInterface = "node0";
constexpr std::uint32_t kOuterIp = 0xA9FE4D01;  // 169.254.77.1: link-local, so no router passes it on either (RFC 3927)
constexpr std::uint32_t kInnerIp = 0xA9FE4D02;
constexpr std::uint8_t kPrefixBits = 30;

/// The calling thread's from now on.
base::Status new_namespace() {
  if (::unshare(CLONE_NEWNET) != 0) return base::errno_error("cannot make a network namespace", errno);
  // No link-local IPv6 addresses, and no packets to obtain them; absent where the kernel has no IPv6.
  (void)write_control_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
  (void)write_control_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
  // A host that routes hands the setting down to new namespaces.
  (void)write_control_file("/proc/sys/net/ipv4/ip_forward", "0");
  return {};
}

}  // namespace

base::Result<std::unique_ptr<Network>> Network::make(const std::string& door) {
  std::unique_ptr<Network> network(new Network(door));
  if (auto built = network->build(); !built.ok()) return built.error().within("cannot make a sandbox's network");
  return network;
}

base::Status Network::build() {
  THAW_RETURN_IF_ERROR(new_namespace());
  outer_ = Fd(::open(kOwnNamespace, O_RDONLY | O_CLOEXEC));
  if (!outer_) return base::errno_error("cannot open a network namespace", errno);
  THAW_ASSIGN_OR_RETURN(Netlink outer, Netlink::open());
  THAW_RETURN_IF_ERROR(write_file(door_, "", 0400));
  if (::mount(kOwnNamespace, door_.c_str(), nullptr, MS_BIND, nullptr) != 0)
    return base::errno_error("cannot mount a network namespace at " + door_, errno);

  THAW_RETURN_IF_ERROR(new_namespace());
  THAW_ASSIGN_OR_RETURN(Netlink inner, Netlink::open());
  THAW_RETURN_IF_ERROR(inner.add_cable(kInnerInterface, kOuterInterface, outer_.get()));
  THAW_RETURN_IF_ERROR(outer.add_address(kOuterInterface, kOuterIp, kPrefixBits));
  THAW_RETURN_IF_ERROR(outer.bring_up(kOuterInterface));
  THAW_RETURN_IF_ERROR(inner.add_address(kInnerInterface, kInnerIp, kPrefixBits));
  THAW_RETURN_IF_ERROR(inner.bring_up(kInnerInterface));
  return inner.bring_up("lo");
}

Network::~Network() {
  if (auto removed = remove(); !removed.ok()) spdlog::error("{}", removed.error().message);
}

base::Status Network::remove() {
  if (::umount2(door_.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT)
    return base::errno_error("cannot unmount " + door_, errno);
  ::unlink(door_.c_str());
  outer_.reset();
  return {};
}

}  // namespace thaw::node
