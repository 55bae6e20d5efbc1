#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <memory>
#include <span>
#include <string>

#include "base/result.h"

struct ssl_st;
struct ssl_ctx_st;

/// TLS 1.2 and 1.3 for connections that the server accepts, by OpenSSL, over the loop's own sockets. Nothing here waits.
namespace thaw::net {

struct TlsFiles {
  std::string certificate;  ///< PEM: the server's own first, then the chain
  std::string key;          ///< PEM, unencrypted
  std::string client_ca;    ///< PEM: who may sign clients' certificates; empty: clients need none
};

class TlsSession;

/// What new connections are begun with. Immutable; shared by them, so that another can take its place while they live on.
class TlsContext {
 public:
  /// ErrorKind::invalid or io names the file and what is wrong: unreadable, no PEM, key and certificate of different pairs.
  static base::Result<std::shared_ptr<TlsContext>> load(const TlsFiles& files);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  /// For an accepted socket, which stays its owner's.
  base::Result<std::unique_ptr<TlsSession>> accept(int fd) const;
  /// When the server's certificate ends, in seconds since 1970.
  [[nodiscard]] std::int64_t expires_unix_s() const { return expires_unix_s_; }

 private:
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
  ssl_ctx_st* context_;
  std::int64_t expires_unix_s_ = 0;
};

/// One connection's. Results are bytes, 0 at the peer's end, or -errno: -EAGAIN means that the socket must become readable (after read() and a
/// handshake with `want_write` false) or writable first; -EPROTO that the peer does not speak TLS as it should (error() says why).
class TlsSession {
 public:
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  /// 0 when it is done.
  int handshake(bool& want_write);
  ssize_t read(std::span<char> buffer);
  /// After -EAGAIN the next call must begin with the same bytes: they are on their way already.
  ssize_t write(std::span<const iovec> parts);
  /// Tells the peer that nothing more comes, if it goes out at once.
  void close_notify();
  /// The subject of the client's certificate as RFC 2253 writes it ("CN=metrics,O=Example"); empty: it has none.
  [[nodiscard]] std::string peer_subject() const;
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  friend class TlsContext;
  explicit TlsSession(ssl_st* ssl) : ssl_(ssl) {}
  ssize_t failed(int result, bool& want_write);
  static std::size_t gather(std::span<const iovec> parts, std::size_t skip, std::span<char> into);

  ssl_st* ssl_;
  std::size_t begun_bytes_ = 0;  ///< of a write that must be repeated
  bool broken_ = false;
  bool open_ = false;  ///< the handshake is done
  std::string error_;
};

}  // namespace thaw::net
