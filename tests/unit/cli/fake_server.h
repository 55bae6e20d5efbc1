#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace thaw::cli {

/// A server for the client to talk to: answers one connection after the other on a free loopback port, with what the
/// test's handler writes. Its destructor unblocks and joins everything.
class FakeServer {
 public:
  struct Request {
    std::string method;
    std::string target;
    std::string head;  ///< request line and headers
    std::string body;
  };

  /// The answering end of one connection; closed when the handler returns.
  class Connection {
   public:
    explicit Connection(int fd) : fd_(fd) {}
    void send(std::string_view bytes) const;
    /// A whole answer: status, JSON body, x-request-id.
    void answer(int status, std::string_view body) const;
    /// Waits for the client to close its end; false after `timeout_ms`.
    [[nodiscard]] bool closed_by_client(int timeout_ms) const;

   private:
    int fd_;
  };

  using Handler = std::function<void(const Request&, Connection&)>;

  explicit FakeServer(Handler handler);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] std::vector<Request> requests() const;

 private:
  void serve();
  void handle(int fd);

  Handler handler_;
  unsigned port_ = 0;  // before listener_, whose initialiser sets it
  int listener_ = -1;
  int stop_ = -1;
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::thread thread_;
};

/// A loopback URL at which nobody listens.
std::string unreachable_url();

}  // namespace thaw::cli
