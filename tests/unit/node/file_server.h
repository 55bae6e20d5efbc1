#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace thaw::test {

struct ServedRequest {
  std::string path;
  std::map<std::string, std::string> headers;  ///< names in lower case
  std::uint64_t begin = 0;                     ///< of Range; 0 without
  std::optional<std::uint64_t> end;            ///< of Range, behind the last byte
  [[nodiscard]] bool ranged() const { return end.has_value(); }
};

struct Served {
  int status = 200;
  std::string headers;  ///< whole lines
  std::string body;
  std::optional<std::size_t> cut_after;   ///< of the body: the connection is closed there
  std::optional<std::size_t> said_bytes;  ///< Content-Length, if it is to be a lie
  bool chunked = false;                   ///< no length is said
  int pause_ms = 0;                       ///< after every 16 KiB
};

/// A web server on 127.0.0.1 that answers as it is told: truly, slowly, falsely, or not to the end. One thread a connection.
class FileServer {
 public:
  using Answer = std::function<Served(const ServedRequest&)>;

  explicit FileServer(Answer answer) : answer_(std::move(answer)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 64), 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept(); });
  }
  ~FileServer() {
    closing_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    ::close(listener_);
    {
      const std::lock_guard lock(mutex_);
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
  }
  FileServer(const FileServer&) = delete;
  FileServer& operator=(const FileServer&) = delete;

  [[nodiscard]] std::string url(const std::string& path) const { return "http://127.0.0.1:" + std::to_string(port_) + path; }
  [[nodiscard]] std::vector<ServedRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  [[nodiscard]] std::uint64_t sent_bytes() const { return sent_; }

  /// The whole file or the range that is asked for, as an honest server would answer.
  static Served serve(const ServedRequest& request, const std::string& file, const std::string& etag = "\"v1\"") {
    Served served;
    served.headers = "Accept-Ranges: bytes\r\nETag: " + etag + "\r\n";
    const auto if_range = request.headers.find("if-range");
    const bool same = if_range == request.headers.end() || if_range->second == etag;
    if (!request.ranged() || !same) {
      served.body = file;
      return served;
    }
    if (request.begin >= file.size()) {
      served.status = 416;
      served.headers += "Content-Range: bytes */" + std::to_string(file.size()) + "\r\n";
      return served;
    }
    const std::uint64_t end = std::min<std::uint64_t>(*request.end, file.size());
    served.status = 206;
    served.headers +=
        "Content-Range: bytes " + std::to_string(request.begin) + "-" + std::to_string(end - 1) + "/" + std::to_string(file.size()) + "\r\n";
    served.body = file.substr(request.begin, end - request.begin);
    return served;
  }

 private:
  void accept() {
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0 || closing_) {
        if (fd >= 0) ::close(fd);
        return;
      }
      const std::lock_guard lock(mutex_);
      open_.push_back(fd);
      threads_.emplace_back([this, fd] {
        while (!closing_ && one(fd)) {
        }
        const std::lock_guard closing(mutex_);
        std::erase(open_, fd);
        ::close(fd);
      });
    }
  }

  static std::optional<ServedRequest> read(int fd) {
    std::string head;
    char c = 0;
    while (!head.ends_with("\r\n\r\n")) {
      if (::recv(fd, &c, 1, 0) != 1) return std::nullopt;
      head += c;
    }
    ServedRequest request;
    const auto space = head.find(' ');
    request.path = head.substr(space + 1, head.find(' ', space + 1) - space - 1);
    for (std::size_t at = head.find("\r\n") + 2; at + 2 < head.size();) {
      const auto end = head.find("\r\n", at);
      const auto colon = head.find(':', at);
      std::string name = head.substr(at, colon - at);
      for (char& letter : name) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
      request.headers[name] = head.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    if (const auto range = request.headers.find("range"); range != request.headers.end()) {
      const std::string text = range->second.substr(6);
      request.begin = std::stoull(text);
      request.end = std::stoull(text.substr(text.find('-') + 1)) + 1;
    }
    return request;
  }

  bool send_all(int fd, const char* bytes, std::size_t count) {
    while (count > 0) {
      const ssize_t sent = ::send(fd, bytes, count, MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes += sent;
      count -= static_cast<std::size_t>(sent);
    }
    return true;
  }

  bool one(int fd) {
    const auto request = read(fd);
    if (!request) return false;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(*request);
    }
    const Served served = answer_(*request);
    std::string head = "HTTP/1.1 " + std::to_string(served.status) + " Answer\r\n" + served.headers;
    head += served.chunked ? "Transfer-Encoding: chunked\r\n\r\n"
                           : "Content-Length: " + std::to_string(served.said_bytes.value_or(served.body.size())) + "\r\n\r\n";
    if (!send_all(fd, head.data(), head.size())) return false;
    const std::size_t end = std::min(served.body.size(), served.cut_after.value_or(served.body.size()));
    constexpr std::size_t kPiece = 16 << 10;
    for (std::size_t at = 0; at < end && !closing_; at += kPiece) {
      const std::size_t count = std::min(kPiece, end - at);
      std::string piece = served.body.substr(at, count);
      if (served.chunked) {
        char size[32];
        std::snprintf(size, sizeof size, "%zx\r\n", count);
        piece = size + piece + "\r\n";
      }
      if (!send_all(fd, piece.data(), piece.size())) return false;
      sent_ += count;
      if (served.pause_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(served.pause_ms));  // it is a slow server
    }
    if (served.cut_after || (served.said_bytes && *served.said_bytes != served.body.size())) {
      ::shutdown(fd, SHUT_RDWR);
      return false;
    }
    return !served.chunked || send_all(fd, "0\r\n\r\n", 5);
  }

  Answer answer_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<bool> closing_{false};
  std::atomic<std::uint64_t> sent_{0};
  mutable std::mutex mutex_;
  std::vector<ServedRequest> requests_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace thaw::test
