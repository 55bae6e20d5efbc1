#pragma once

#include <memory>
#include <optional>
#include <string>

#include "gateway/exchange.h"
#include "net/http.h"
#include "net/socket.h"
#include "net/task.h"

namespace thaw::gateway {

class Server;

/// A client's connection: reads requests one after the other and has the server answer them. Holds no buffer while it waits.
/// Lifetime: made by the server for an accepted fd; its coroutine ends with the connection, and then it removes itself.
class Connection {
 public:
  Connection(Server& server, std::unique_ptr<net::Socket> socket, std::string peer);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  net::Task<void> serve();
  /// Nothing was asked since the last answer: may be closed at once when draining.
  [[nodiscard]] bool idle() const { return idle_; }
  void cancel() { socket_->cancel(); }
  /// Ends it as if the client had left, whatever it waits for.
  void cut();
  [[nodiscard]] const std::string& peer() const { return peer_; }
  /// The subject of its client's certificate; empty without one.
  [[nodiscard]] const std::string& certificate() const { return certificate_; }
  [[nodiscard]] std::uint64_t min_rate() const;
  [[nodiscard]] const Exchange* exchange() const { return exchange_; }  ///< under way; nullptr: none

 private:
  friend class Exchange;

  enum class Got { request, end, refused };
  net::Task<bool> shake_hands();
  net::Task<Got> read_head(net::Head& head, net::HeadError& error);
  /// Reads the body into place; "" or why it could not be.
  net::Task<std::optional<ApiError>> read_body(Exchange& exchange, net::Head& head);
  net::Task<std::optional<ApiError>> read_sized(Exchange& exchange, net::Head& head);
  net::Task<std::optional<ApiError>> read_chunked(Exchange& exchange, net::Head& head);
  net::Task<void> answer_one(net::Head& head, bool& keep_alive);
  net::Task<void> refuse_head(net::Head& head, const net::HeadError& error);
  net::Task<ssize_t> read_more();
  net::Task<void> linger();
  void release_request();
  bool charge(std::size_t bytes);

  Server& server_;
  std::unique_ptr<net::Socket> socket_;
  std::string peer_;
  std::string certificate_;
  std::string in_;            ///< the request being read or answered, and what was sent behind it
  std::string decoded_body_;  ///< of a chunked request
  std::size_t consumed_ = 0;  ///< bytes of in_ that belong to the present request
  std::size_t charged_ = 0;   ///< of the server's budget for buffered bodies
  bool idle_ = true;
  Exchange* exchange_ = nullptr;  ///< under way
};

}  // namespace thaw::gateway
