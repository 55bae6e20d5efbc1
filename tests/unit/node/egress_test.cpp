#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "node/egress/egress_proxy.h"
#include "node/egress/proxy_request.h"

namespace thaw::node {
namespace {

sockaddr_storage at(const std::string& ipv4, std::uint16_t port) {
  sockaddr_storage out{};
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  ::inet_pton(AF_INET, ipv4.c_str(), &in.sin_addr);
  std::memcpy(&out, &in, sizeof in);
  return out;
}

std::uint16_t port_of(int fd) {
  sockaddr_in in{};
  socklen_t size = sizeof in;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&in), &size);
  return ntohs(in.sin_port);
}

EgressPolicy policy_of(const std::vector<std::string>& rules) {
  EgressPolicy policy;
  for (const std::string& rule : rules) policy.rules.push_back(*spec::parse_egress_rule(rule));
  return policy;
}

/// A server that takes one connection after the other and says what it got, until its end of file.
class Echo {
 public:
  Echo() : listener_(*listen_here("127.0.0.1", 0)), port_(port_of(listener_.get())), thread_([this] { loop(); }) {}
  ~Echo() {
    stop_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;
  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] int taken() const { return taken_; }

 private:
  void loop() {
    while (!stop_) {
      pollfd_wait();
      const Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client) continue;
      ++taken_;
      char buffer[4096];
      ssize_t got = 0;
      while ((got = ::recv(client.get(), buffer, sizeof buffer, 0)) > 0) {
        const std::string_view bytes(buffer, static_cast<std::size_t>(got));
        ::send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (bytes.find("Connection: close") != std::string_view::npos) break;
      }
    }
  }
  void pollfd_wait() const {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(listener_.get(), &set);
    timeval wait{0, 20'000};
    ::select(listener_.get() + 1, &set, nullptr, nullptr, &wait);
  }
  Fd listener_;
  std::uint16_t port_;
  std::atomic<bool> stop_{false};
  std::atomic<int> taken_{0};
  std::thread thread_;
};

/// All that comes back for `bytes`, until the other side ends it. `then`: sent once something came.
std::string ask(std::uint16_t proxy, const std::string& bytes, const std::string& then = {}) {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  timeval wait{10, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  const sockaddr_storage address = at("127.0.0.1", proxy);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(sockaddr_in)) != 0) return "no connection";
  ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  std::string answer;
  char buffer[4096];
  bool said = then.empty();
  ssize_t got = 0;
  while ((got = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0) {
    answer.append(buffer, static_cast<std::size_t>(got));
    if (said) continue;
    ::send(fd.get(), then.data(), then.size(), MSG_NOSIGNAL);
    ::shutdown(fd.get(), SHUT_WR);
    said = true;
  }
  return answer;
}

class Proxy {
 public:
  explicit Proxy(EgressProxy::Options options) : counts(options.counts) {
    Fd listener = *listen_here("127.0.0.1", 0);
    port = port_of(listener.get());
    options.on_refusal = [this](const EgressRefusal& refusal) {
      const std::lock_guard lock(mutex);
      refused.push_back(refusal.target);
    };
    proxy = *EgressProxy::start(std::move(listener), std::move(options), threads);
  }
  std::string connect(const std::string& target, const std::string& then = "ping") {
    return ask(port, "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n", then);
  }

  std::mutex mutex;
  std::vector<std::string> refused;
  std::shared_ptr<EgressCounts> counts;
  ConnectionThreads threads;
  std::uint16_t port = 0;
  std::unique_ptr<EgressProxy> proxy;
};

TEST(EgressProxy, ListedAddressesAreReachedAndNothingElse) {
  Echo echo;
  const std::string port = std::to_string(echo.port());
  Proxy proxy({.policy = policy_of({"127.0.0.1:" + port, "public.example:443"})});
  EXPECT_EQ(proxy.connect("127.0.0.1:" + port), "HTTP/1.1 200 Connection established\r\n\r\nping");
  for (const std::string& target : std::vector<std::string>{"127.0.0.1:22", "127.0.0.2:" + port, "other.example:443", "public.example:80",
                                                            "169.254.169.254:80", "[::1]:" + port, "localhost:" + port, "2130706433:" + port})
    EXPECT_EQ(proxy.connect(target).substr(0, 12), "HTTP/1.1 403") << target;
  EXPECT_EQ(echo.taken(), 1);
  EXPECT_EQ(proxy.counts->connected, 1U);
  EXPECT_EQ(proxy.counts->refused, 8U);
  const std::lock_guard lock(proxy.mutex);
  EXPECT_EQ(proxy.refused.size(), 8U);
}

TEST(EgressProxy, ANameIsJudgedByWhereItLeadsAtThatMoment) {
  Echo echo;
  std::atomic<int> asked{0};
  const auto resolve = [&](const std::string& host, std::uint16_t port) {
    // Rebinding: public when somebody looks first, private when it is connected to.
    ++asked;
    EXPECT_EQ(host, "rebind.example");
    return std::vector{at("127.0.0.1", port), at("10.0.0.1", port), at("169.254.169.254", port)};
  };
  Proxy proxy({.policy = policy_of({"rebind.example:" + std::to_string(echo.port())}), .resolve = resolve});
  const std::string answer = proxy.connect("rebind.example:" + std::to_string(echo.port()));
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 403")) << answer;
  EXPECT_NE(answer.find("private address"), std::string::npos);
  EXPECT_EQ(asked, 1);
  EXPECT_TRUE(proxy.connect("unlisted.example:443").starts_with("HTTP/1.1 403"));
  EXPECT_EQ(asked, 1) << "what is not listed is not even resolved";
  EXPECT_EQ(echo.taken(), 0);
}

TEST(EgressProxy, ANameMayLeadToAPrivateAddressThatIsListedItself) {
  Echo echo;
  const std::string port = std::to_string(echo.port());
  const auto resolve = [&](const std::string&, std::uint16_t p) { return std::vector{at("127.0.0.1", p)}; };
  Proxy own({.policy = policy_of({"db.internal:" + port, "127.0.0.0/8:" + port}), .resolve = resolve});
  EXPECT_TRUE(own.connect("db.internal:" + port).ends_with("ping"));
  EgressPolicy tenants = policy_of({"db.internal:" + port, "127.0.0.0/8:" + port});
  tenants.private_by_rule = false;
  Proxy of_tenant({.policy = tenants, .resolve = resolve});
  EXPECT_TRUE(of_tenant.connect("db.internal:" + port).starts_with("HTTP/1.1 403")) << "a tenant's word opens no private network";
  EXPECT_TRUE(of_tenant.connect("127.0.0.1:" + port).starts_with("HTTP/1.1 403"));
}

TEST(EgressProxy, PassesPlainRequestsOn) {
  Echo echo;
  const std::string port = std::to_string(echo.port());
  Proxy proxy({.policy = policy_of({"127.0.0.1:" + port})});
  const std::string answer =
      ask(proxy.port, "GET http://127.0.0.1:" + port + "/a?b=c HTTP/1.1\r\nHost: evil\r\nProxy-Authorization: x\r\nAccept: */*\r\n\r\n");
  EXPECT_EQ(answer, "GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:" + port + "\r\nAccept: */*\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(ask(proxy.port, "GET http://127.0.0.9:80/ HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 403"));
  EXPECT_TRUE(ask(proxy.port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 400")) << "it is no server";
  EXPECT_TRUE(ask(proxy.port, "GET https://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 400"));
}

TEST(EgressProxy, EndsWithConnectionsOpen) {
  Echo echo;
  const std::string port = std::to_string(echo.port());
  auto proxy = std::make_unique<Proxy>(EgressProxy::Options{.policy = policy_of({"127.0.0.1:" + port})});
  std::thread client([port = proxy->port, target = port] { ask(port, "CONNECT 127.0.0.1:" + target + " HTTP/1.1\r\nHost: x\r\n\r\n"); });
  while (proxy->counts->connected == 0) std::this_thread::yield();
  proxy.reset();
  client.join();
}

TEST(ProxyRequest, IsReadStrictly) {
  const auto parse = [](const std::string& text) {
    ProxyRequest request;
    net::HeadError error;
    return read_proxy_request(text, request, error);
  };
  ProxyRequest request;
  net::HeadError error;
  ASSERT_EQ(read_proxy_request("CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: x\r\n\r\nrest", request, error), net::Parse::done) << error.message;
  EXPECT_EQ(request.host, "2001:db8::1");
  EXPECT_EQ(request.port, 443);
  EXPECT_EQ(request.bytes, std::string("CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n").size());
  ASSERT_EQ(read_proxy_request("POST http://h?q HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", request, error), net::Parse::done)
      << error.message;
  EXPECT_EQ(request.passed_on, "POST /?q HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(request.port, 80);
  for (const std::string text : {"", "CONN", "CONNECT h:443 HTTP/1.1\r\n", "CONNECT h:443 HTTP/1.1\r\nHost: x\r\n"})
    EXPECT_EQ(parse(text), net::Parse::more) << text;
  for (const std::string text :
       {"CONNECT h HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT h:0 HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT :443 HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT u@h:443 HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT h:443\r\n\r\n", "\r\n\r\n", "GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST http://h/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET http://h/ HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n"})
    EXPECT_EQ(parse(text), net::Parse::bad) << text;
  EXPECT_EQ(parse("CONNECT " + std::string(20'000, 'h')), net::Parse::bad);
  // Host and Connection are said anew: what is passed on is still one that the same reader takes.
  const auto with_headers = [](std::size_t count) {
    std::string text = "GET http://h/ HTTP/1.1\r\nHost: x\r\n";
    for (std::size_t i = 0; i < count; ++i) text += "X-" + std::to_string(i) + ": y\r\n";
    return text + "\r\n";
  };
  EXPECT_EQ(parse(with_headers(net::kMaxHeaders - 2)), net::Parse::done);
  EXPECT_EQ(parse(with_headers(net::kMaxHeaders - 1)), net::Parse::bad);
}

}  // namespace
}  // namespace thaw::node
