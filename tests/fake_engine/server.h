#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "answers.h"
#include "http.h"
#include "lora.h"
#include "mapped_model.h"
#include "options.h"
#include "sleep.h"

namespace thaw::fake_engine {

using Clock = std::chrono::steady_clock;

struct Stats {
  std::uint64_t requests = 0;    ///< completions and embeddings begun
  std::uint64_t completed = 0;
  std::uint64_t cancelled = 0;   ///< the client left before its answer was complete
  std::uint64_t active = 0;
  std::uint64_t connections = 0;
};

/// One client. Lives until the end of the loop's round in which it was closed.
struct Connection {
  int fd = -1;
  bool closed = false;
  bool close_when_flushed = false;
  bool serving = false;               ///< in serve_input(), which sees to the rest of `in`
  std::string in;                     ///< received and not yet parsed
  std::string out;                    ///< to be sent, from out_sent on
  std::size_t out_sent = 0;

  // The request being answered.
  std::unique_ptr<Answer> answer;
  bool keep_alive = true;
  bool chunked = true;
  bool begun = false;                 ///< a stream's head is out
  bool hung = false;
  std::string stream_head;
  std::string late_reply;             ///< goes out when its timer is due
  std::int64_t next_token = 0;
  std::uint64_t timer = 0;            ///< number of the timer that counts; older ones are stale
  bool queued = false;                ///< in Server::ready_
  bool blocked = false;               ///< waits for the client to read
};

/// The event loop: one thread, edge-triggered epoll (or poll). Streams without delays take turns, one write each.
class Server {
 public:
  explicit Server(const Options& options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// False with a message on standard error when the address cannot be bound.
  bool listen();
  [[noreturn]] void run();

 private:
  // server.cpp: sockets and time
  void watch(int fd, std::uint32_t events);
  int wait_for_events(epoll_event* events, int room);
  int poll_events(epoll_event* events, int room);
  void accept_clients();
  void on_event(Connection& c, std::uint32_t events);
  void receive(Connection& c);
  void flush(Connection& c);
  void close(Connection& c);
  void schedule(Connection& c, std::int64_t delay_ms);
  void run_timers();
  void run_ready();
  void reap();
  [[nodiscard]] int wait_ms() const;

  // connection.cpp: what is said
  void serve_input(Connection& c);
  void handle(Connection& c, const Request& request);
  void reply(Connection& c, int status, std::string_view body, bool keep_alive);
  void reply_later(Connection& c, const Sleeper::Reply& reply, bool keep_alive);
  void begin_answer(Connection& c, const Request& request, Endpoint endpoint);
  void step(Connection& c);
  bool step_stream(Connection& c);
  bool meet_trouble(Connection& c);
  void finish(Connection& c);
  [[nodiscard]] bool ready() const { return !options_.hang_start && Clock::now() >= ready_at_; }
  [[nodiscard]] std::string stats_body() const;
  [[nodiscard]] std::string metrics_body() const;
  [[nodiscard]] bool serves_model(std::string_view body) const;

  struct Timer {
    Clock::time_point at;
    int fd;
    std::uint64_t number;
    bool operator<(const Timer& other) const { return at > other.at; }  // the earliest on top
  };

  const Options& options_;
  Sleeper sleeper_;
  Adapters adapters_;
  MappedModel model_;
  Clock::time_point ready_at_;
  bool ready_for_good_ = false;
  int epoll_ = -1;
  int listener_ = -1;
  Stats stats_;
  std::vector<std::vector<char>> leaked_;
  bool exiting_ = false;
  std::vector<std::unique_ptr<Connection>> connections_;  ///< by fd
  std::vector<int> closed_;
  std::vector<int> ready_;
  std::priority_queue<Timer> timers_;
  std::uint64_t last_timer_ = 0;
};

}  // namespace thaw::fake_engine
