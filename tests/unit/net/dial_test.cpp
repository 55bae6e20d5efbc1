#include "net/dial.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <future>
#include <string>
#include <thread>

namespace thaw::net {
namespace {

using base::Endpoint;

/// A thread in a network namespace of its own, where something listens on 127.0.0.1.
class Elsewhere {
 public:
  Elsewhere() {
    thread_ = std::thread([this] { live(); });
    ready_.get_future().wait();
  }
  ~Elsewhere() {
    leave_.set_value();
    thread_.join();
  }
  Elsewhere(const Elsewhere&) = delete;
  Elsewhere& operator=(const Elsewhere&) = delete;

  [[nodiscard]] bool made() const { return made_; }
  [[nodiscard]] Endpoint endpoint() const { return {"", "127.0.0.1", port_, path_}; }
  /// What the first client says.
  std::string heard() {
    const int client = ::accept(listener_, nullptr, nullptr);
    char text[16] = "";
    const ssize_t got = ::read(client, text, sizeof text);
    ::close(client);
    return {text, static_cast<std::size_t>(got > 0 ? got : 0)};
  }

 private:
  void live() {
    made_ = ::unshare(CLONE_NEWNET) == 0;
    path_ = "/proc/" + std::to_string(::getpid()) + "/task/" + std::to_string(::gettid()) + "/ns/net";
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ifreq loopback{"lo", {}};
    loopback.ifr_flags = IFF_UP;
    ::ioctl(listener_, SIOCSIFFLAGS, &loopback);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(listener_, 4);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    ready_.set_value();
    leave_.get_future().wait();
    ::close(listener_);
  }

  std::promise<void> ready_, leave_;
  bool made_ = false;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::string path_;
  std::thread thread_;
};

std::uint64_t own_namespace() {
  struct stat info {};
  ::stat("/proc/thread-self/ns/net", &info);
  return info.st_ino;
}

int wait_writable(int fd) {
  pollfd entry{fd, POLLOUT, 0};
  ::poll(&entry, 1, 10'000);
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

TEST(Dial, ReachesAnotherNamespaceAndComesHome) {
  Elsewhere elsewhere;
  if (!elsewhere.made()) GTEST_SKIP() << "network namespaces need root";
  const std::uint64_t home = own_namespace();
  const auto dialer = Dialer::open(elsewhere.endpoint());
  ASSERT_TRUE(dialer.ok()) << dialer.error().message;
  const auto fd = dialer->connect();
  ASSERT_TRUE(fd.ok()) << fd.error().message;
  EXPECT_EQ(own_namespace(), home);
  EXPECT_EQ(wait_writable(*fd), 0);
  EXPECT_EQ(::write(*fd, "hello", 5), 5);
  EXPECT_EQ(elsewhere.heard(), "hello");
  ::close(*fd);
}

TEST(Dial, NobodyThereIsARefusal) {
  Elsewhere elsewhere;
  if (!elsewhere.made()) GTEST_SKIP() << "network namespaces need root";
  Endpoint endpoint = elsewhere.endpoint();
  endpoint.port = endpoint.port == 9 ? 10 : 9;
  const auto dialer = Dialer::open(endpoint);
  ASSERT_TRUE(dialer.ok());
  const auto fd = dialer->connect();
  if (!fd.ok()) return;  // told at once
  EXPECT_EQ(wait_writable(*fd), ECONNREFUSED);
  ::close(*fd);
}

TEST(Dial, WhatIsNoNamespaceIsAnError) {
  EXPECT_EQ(Dialer::open({"", "127.0.0.1", 80, "/nowhere"}).error().kind, base::ErrorKind::io);
  const auto dialer = Dialer::open({"", "127.0.0.1", 80, "/dev/null"});
  ASSERT_TRUE(dialer.ok());
  const std::uint64_t home = own_namespace();
  EXPECT_FALSE(dialer->connect().ok());
  EXPECT_EQ(own_namespace(), home);
}

TEST(Dial, AUnixPathHasItsBound) {
  const auto dialer = Dialer::open({"/" + std::string(107, 'x'), "", 0, ""});
  ASSERT_FALSE(dialer.ok());
  EXPECT_EQ(dialer.error().kind, base::ErrorKind::invalid);
  EXPECT_TRUE(Dialer::open({"/" + std::string(106, 'x'), "", 0, ""}).ok());
}

}  // namespace
}  // namespace thaw::net
