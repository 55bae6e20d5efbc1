#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "net/dial.h"
#include "net/loop.h"
#include "net/task.h"
#include "net/tls.h"

namespace thaw::net {

/// A non-blocking stream socket on one loop. One coroutine may wait to read and one to write at a time. Every wait ends: by data, by the
/// peer, by the deadline (-ETIMEDOUT) or by cancel() (-ECANCELED). Must not be destroyed while a coroutine waits on it, other than by destroying that coroutine.
///
/// Watches edge-triggered for input and hang-up only; output is watched just while a write waits, because a Unix socket would report
/// each byte that its peer took.
class Socket final : public Pollable {
 public:
  /// Takes ownership of `fd`, which must be non-blocking.
  static base::Result<std::unique_ptr<Socket>> adopt(Loop& loop, int fd);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  /// From here on the socket speaks TLS, as the server's side; before anything is read or written.
  base::Status start_tls(const TlsContext& context);
  /// co_await handshake(): 0, or -errno (-EPROTO: the peer does it wrong). After start_tls(), within the deadline.
  Task<int> handshake();
  [[nodiscard]] const TlsSession* tls() const { return tls_.get(); }

  /// Both directions; moves with each request rather than each byte.
  void set_deadline(base::TimePoint deadline) { timer_.arm(deadline); }
  void clear_deadline() { timer_.disarm(); }
  /// Wakes whoever waits, with -ECANCELED, in this turn of the loop.
  void cancel();
  /// The peer has closed or shut down its side.
  [[nodiscard]] bool hung_up() const { return hung_up_; }
  /// Called once when the peer goes, while nobody waits to read. Set to nullptr to stop.
  void on_hang_up(std::function<void()> handler) { hang_up_handler_ = std::move(handler); }
  [[nodiscard]] int fd() const { return fd_; }
  /// Nothing more is written: the peer is told. Reading goes on.
  void shutdown_write();
  /// Closes in a way that tells the peer the answer was cut (TCP reset).
  void reset_on_close();

  /// co_await read(buffer): bytes read, 0 at the end, or -errno.
  auto read(std::span<char> buffer) { return ReadAwaiter{*this, buffer}; }
  /// Waits until there is something to read (0) or the wait failed (-errno), without needing a buffer meanwhile.
  auto readable() { return ReadableAwaiter{*this}; }
  /// One attempt, no waiting: bytes written or -errno (-EAGAIN when the peer is slow).
  ssize_t try_write(std::span<const iovec> parts);
  /// One attempt, no waiting: as read(), or -EAGAIN.
  ssize_t try_read(std::span<char> buffer);
  /// Waits until a write may succeed.
  auto writable() { return WritableAwaiter{*this}; }
  /// Writes all of it or fails: 0 or -errno.
  Task<int> write_all(std::string_view data);

  void on_events(std::uint32_t events) override;

 private:
  struct ReadAwaiter {
    Socket& socket;
    std::span<char> buffer;
    ssize_t result = 0;
    bool await_ready();
    void await_suspend(std::coroutine_handle<> handle) { socket.reader_ = handle; }
    ssize_t await_resume();
  };
  struct ReadableAwaiter {
    Socket& socket;
    bool await_ready() const { return socket.may_read_; }
    void await_suspend(std::coroutine_handle<> handle) { socket.reader_ = handle; }
    int await_resume() { return socket.take_error(); }
  };
  struct WritableAwaiter {
    Socket& socket;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle);
    int await_resume();
  };

  Socket(Loop& loop, int fd);
  int take_error();
  void timed_out();
  ssize_t read_tls(std::span<char> buffer);

  Loop& loop_;
  int fd_;
  bool may_read_ = true;
  bool hung_up_ = false;
  bool watching_output_ = false;
  int error_ = 0;  ///< why the next wake-up is no data: ETIMEDOUT, ECANCELED
  std::coroutine_handle<> reader_;
  std::coroutine_handle<> writer_;
  std::function<void()> hang_up_handler_;
  std::unique_ptr<TlsSession> tls_;  ///< nullptr: plain
  bool reset_ = false;               ///< no goodbye
  Timer timer_;
};

/// A connection to where `dialer` leads, made or under way; until it is made, writes wait. Never waits itself.
base::Result<std::unique_ptr<Socket>> connect(Loop& loop, const Dialer& dialer);

/// Accepts TCP connections and hands each fd (non-blocking, TCP_NODELAY) to `accepted`.
class Listener final : public Pollable {
 public:
  using Accepted = std::function<void(int fd, std::string peer)>;
  static base::Result<std::unique_ptr<Listener>> open(Loop& loop, const std::string& host, std::uint16_t port, Accepted accepted);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }
  void on_events(std::uint32_t events) override;

 private:
  Listener(Loop& loop, int fd, std::uint16_t port, Accepted accepted);
  void resume_accepting();

  Loop& loop_;
  int fd_;
  std::uint16_t port_;
  Accepted accepted_;
  Timer retry_;  ///< out of file descriptors: look again a little later instead of spinning
};

}  // namespace thaw::net
