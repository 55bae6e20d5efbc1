#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "attempt.h"

namespace thaw::hostile {
namespace {

constexpr int kConnect_ms = 700;

Outcome finish_connect(int fd, const sockaddr* address, socklen_t size) {
  if (fd < 0) return by_result(-1);
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  int result = ::connect(fd, address, size);
  if (result != 0 && errno == EINPROGRESS) {
    pollfd entry{fd, POLLOUT, 0};
    if (::poll(&entry, 1, kConnect_ms) == 0) return refused("no answer");
    socklen_t length = sizeof errno;
    int error = 0;
    ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    errno = error;
    result = error == 0 ? 0 : -1;
  }
  return by_result(result);
}

Outcome connect_ipv4(const std::string& host, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  ::inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  return finish_connect(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), reinterpret_cast<sockaddr*>(&address), sizeof address);
}

Outcome connect_ipv6(const std::string& host, int port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(static_cast<std::uint16_t>(port));
  ::inet_pton(AF_INET6, host.c_str(), &address.sin6_addr);
  return finish_connect(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), reinterpret_cast<sockaddr*>(&address), sizeof address);
}

/// `path` beginning with "@": an abstract name, which belongs to the network namespace and not to the file system.
Outcome connect_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  if (path.starts_with("@")) address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  // Some servers' abstract names end in all the NULs that there is room for.
  if (path.starts_with("@"))
    if (const Outcome padded = finish_connect(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), reinterpret_cast<sockaddr*>(&address), sizeof address); padded.succeeded)
      return padded;
  return finish_connect(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), reinterpret_cast<sockaddr*>(&address), size);
}

/// A datagram leaves, or is said to.
Outcome send_udp(const std::string& host, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  ::inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return by_result(-1);
  return by_result(::sendto(fd, "x", 1, 0, reinterpret_cast<sockaddr*>(&address), sizeof address));
}

Outcome open_socket(int family, int type, int protocol) { return by_result(::socket(family, type | SOCK_CLOEXEC, protocol)); }

/// Asks the kernel for a default route through the loopback device.
Outcome add_route() {
  const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return by_result(-1);
  struct {
    nlmsghdr head;
    rtmsg route;
    rtattr attribute;
    std::uint32_t device;
  } request{};
  request.head.nlmsg_len = sizeof request;
  request.head.nlmsg_type = RTM_NEWROUTE;
  request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
  request.route.rtm_family = AF_INET;
  request.route.rtm_table = RT_TABLE_MAIN;
  request.route.rtm_protocol = RTPROT_STATIC;
  request.route.rtm_scope = RT_SCOPE_LINK;
  request.route.rtm_type = RTN_UNICAST;
  request.attribute.rta_len = RTA_LENGTH(sizeof request.device);
  request.attribute.rta_type = RTA_OIF;
  request.device = 1;
  if (::send(fd, &request, sizeof request, 0) < 0) return by_result(-1);
  struct {
    nlmsghdr head;
    nlmsgerr error;
    char rest[512];
  } answer{};
  pollfd entry{fd, POLLIN, 0};
  if (::poll(&entry, 1, kConnect_ms) <= 0 || ::recv(fd, &answer, sizeof answer, 0) < 0) return refused("no answer");
  errno = -answer.error.error;
  return by_result(answer.error.error == 0 ? 0 : -1);
}

Outcome raise_interface(const char* name) {
  ifreq request{};
  std::strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return by_result(-1);
  request.ifr_flags = IFF_UP | IFF_PROMISC;
  return by_result(::ioctl(fd, SIOCSIFFLAGS, &request));
}

}  // namespace

Attempts network_attempts(const Params& params) {
  const int admin = static_cast<int>(params.number("admin_port", 7420));
  const int canary = static_cast<int>(params.number("canary_port", 22));
  Attempts all;
  const auto tcp = [&](const std::string& what, const std::string& host, int port) { all.push_back({what, [=] { return connect_ipv4(host, port); }}); };
  tcp("connect to the admin API on loopback", "127.0.0.1", admin);
  tcp("connect to the admin API at 0.0.0.0", "0.0.0.0", admin);
  tcp("connect to a server of the host's that listens everywhere, on loopback", "127.0.0.1", canary);
  if (const std::string host = params.text("host"); !host.empty()) {
    tcp("connect to the host's own address", host, canary);
    tcp("connect to the admin API at the host's own address", host, admin);
  }
  tcp("connect to the node's end of a gVisor sandbox's network, a server of the host's", "169.254.77.1", canary);
  tcp("connect to the node's end of a gVisor sandbox's network, the admin API", "169.254.77.1", admin);
  tcp("connect to the cloud's metadata service", "169.254.169.254", 80);
  tcp("connect to the Internet", "1.1.1.1", 443);
  tcp("connect to a private network", "10.0.0.1", 22);
  all.push_back({"connect to the Internet by IPv6", [] { return connect_ipv6("2606:4700:4700::1111", 443); }});
  all.push_back({"connect to the admin API by IPv6", [=] { return connect_ipv6("::1", admin); }});
  all.push_back({"send a DNS question", [] { return send_udp("8.8.8.8", 53); }});
  all.push_back({"send to every machine of the network", [] { return send_udp("224.0.0.1", 5353); }});
  all.push_back({"connect to an abstract Unix socket of the host's", [name = params.text("abstract")] { return connect_unix("@" + name); }});
  for (const char* path : {"/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/systemd/private", "/run/dbus/system_bus_socket"})
    all.push_back({std::string("connect to ") + path, [=] { return connect_unix(path); }});
  if (const std::string path = params.text("canary_socket"); !path.empty())
    all.push_back({"connect to a Unix socket of the host's", [=] { return connect_unix(path); }});
  all.push_back({"open a raw socket", [] { return open_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }});
  all.push_back({"open a packet socket", [] { return open_socket(AF_PACKET, SOCK_RAW, 0); }});
  all.push_back({"open a socket to the hypervisor", [] { return open_socket(AF_VSOCK, SOCK_STREAM, 0); }});
  all.push_back({"open a socket to the kernel's ciphers", [] { return open_socket(AF_ALG, SOCK_SEQPACKET, 0); }});
  all.push_back({"open a socket to the kernel's packet filter", [] { return open_socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER); }});
  all.push_back({"open a socket to the kernel's device events", [] { return open_socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT); }});
  if (params.number("safe", 0) != 0) return all;  // without a sandbox the rest would change the host
  all.push_back({"add a route", add_route});
  all.push_back({"bring up a tunnel device", [] { return raise_interface("tunl0"); }});
  all.push_back({"listen to all of the loopback device", [] { return raise_interface("lo"); }});
  return all;
}

}  // namespace thaw::hostile
