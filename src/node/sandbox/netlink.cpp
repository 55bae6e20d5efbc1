#include "node/sandbox/netlink.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace thaw::node {
namespace {

/// A request being put together: a header, a body, attributes that may hold others.
class Request {
 public:
  Request(std::uint16_t type, std::uint16_t flags) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    body(header);
  }

  template <typename T>
  void body(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    align();
  }
  void attribute(std::uint16_t type, std::string_view payload) {
    const std::size_t at = begin(type);
    bytes_.append(payload);
    end(at);
  }
  template <typename T>
  void number(std::uint16_t type, T value) {
    attribute(type, {reinterpret_cast<const char*>(&value), sizeof value});
  }
  /// With its NUL, as the kernel wants interface names.
  void text(std::uint16_t type, const std::string& value) { attribute(type, {value.c_str(), value.size() + 1}); }

  [[nodiscard]] std::size_t begin(std::uint16_t type) {
    const std::size_t at = bytes_.size();
    const nlattr head{0, type};
    bytes_.append(reinterpret_cast<const char*>(&head), sizeof head);
    return at;
  }
  void end(std::size_t at) {
    const auto length = static_cast<std::uint16_t>(bytes_.size() - at);
    std::memcpy(bytes_.data() + at, &length, sizeof length);
    align();
  }

  [[nodiscard]] std::string& finish() {
    const auto length = static_cast<std::uint32_t>(bytes_.size());
    std::memcpy(bytes_.data(), &length, sizeof length);  // nlmsghdr's first member
    return bytes_;
  }

 private:
  void align() { bytes_.resize(NLMSG_ALIGN(bytes_.size()), '\0'); }
  std::string bytes_;
};

}  // namespace

base::Result<Netlink> Netlink::open() {
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket) return base::errno_error("cannot configure a network (netlink)", errno);
  // The kernel answers at once; a bound all the same.
  const timeval patience{5, 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return Netlink(std::move(socket));
}

base::Status Netlink::ask(std::string& message, const std::string& what) {
  const std::uint32_t sequence = ++sequence_;
  std::memcpy(message.data() + offsetof(nlmsghdr, nlmsg_seq), &sequence, sizeof sequence);
  if (::send(socket_.get(), message.data(), message.size(), 0) < 0) return base::errno_error("cannot " + what, errno);
  alignas(nlmsghdr) std::array<char, 4096> answer{};
  const ssize_t got = ::recv(socket_.get(), answer.data(), answer.size(), 0);
  if (got < 0) return base::errno_error("cannot " + what, errno);
  nlmsghdr header{};
  nlmsgerr outcome{};
  if (static_cast<std::size_t>(got) < sizeof header + sizeof outcome)
    return base::Error{base::ErrorKind::internal, "cannot " + what + ": short answer"};
  std::memcpy(&header, answer.data(), sizeof header);
  std::memcpy(&outcome, answer.data() + NLMSG_HDRLEN, sizeof outcome);
  if (header.nlmsg_type != NLMSG_ERROR || header.nlmsg_seq != sequence)
    return base::Error{base::ErrorKind::internal, "cannot " + what + ": not the answer to what was asked"};
  if (outcome.error != 0) return base::errno_error("cannot " + what, -outcome.error);
  return {};
}

base::Result<std::uint32_t> Netlink::index_of(const std::string& interface) const {
  // Of the socket's namespace, wherever the thread is by now.
  ifreq request{};
  std::strncpy(request.ifr_name, interface.c_str(), sizeof request.ifr_name - 1);
  if (::ioctl(socket_.get(), SIOCGIFINDEX, &request) != 0)
    return base::errno_error("cannot find the interface " + interface, errno);
  return static_cast<std::uint32_t>(request.ifr_ifindex);
}

base::Status Netlink::add_cable(const std::string& name, const std::string& peer_name, int peer_namespace) {
  Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  request.body(ifinfomsg{});
  request.text(IFLA_IFNAME, name);
  const std::size_t info = request.begin(IFLA_LINKINFO);
  request.attribute(IFLA_INFO_KIND, "veth");
  const std::size_t data = request.begin(IFLA_INFO_DATA);
  const std::size_t peer = request.begin(VETH_INFO_PEER);
  request.body(ifinfomsg{});
  request.text(IFLA_IFNAME, peer_name);
  request.number(IFLA_NET_NS_FD, peer_namespace);
  request.end(peer);
  request.end(data);
  request.end(info);
  auto made = ask(request.finish(), "connect a sandbox's network (veth)");
  if (!made.ok() && made.error().message.find(std::strerror(EOPNOTSUPP)) != std::string::npos)
    return base::Error{base::ErrorKind::unavailable,
                       made.error().message + "; load the kernel module veth (modprobe veth)"};
  return made;
}

base::Status Netlink::add_address(const std::string& interface, std::uint32_t ipv4, std::uint8_t prefix_bits) {
  THAW_ASSIGN_OR_RETURN(const std::uint32_t index, index_of(interface));
  Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
  ifaddrmsg address{};
  address.ifa_family = AF_INET;
  address.ifa_prefixlen = prefix_bits;
  address.ifa_scope = RT_SCOPE_LINK;
  address.ifa_index = index;
  request.body(address);
  request.number(IFA_LOCAL, htonl(ipv4));
  request.number(IFA_ADDRESS, htonl(ipv4));
  return ask(request.finish(), "give " + interface + " its address");
}

base::Status Netlink::bring_up(const std::string& interface) {
  THAW_ASSIGN_OR_RETURN(const std::uint32_t index, index_of(interface));
  Request request(RTM_NEWLINK, 0);
  ifinfomsg link{};
  link.ifi_index = static_cast<int>(index);
  link.ifi_flags = IFF_UP;
  link.ifi_change = IFF_UP;
  request.body(link);
  return ask(request.finish(), "bring " + interface + " up");
}

}  // namespace thaw::node
