#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"
#include "node/pull/http_rules.h"
#include "node/pull/range_plan.h"
#include "spec/source_ref.h"

namespace thaw::node::pull {

/// How strangers' servers are asked.
struct FetchSettings {
  SourceRules rules;
  std::string proxy;    ///< everything goes through it, and it decides which addresses it connects to; empty: none
  std::string ca_file;  ///< empty: the system's certificates
  base::Duration connect_timeout = base::Seconds(15);
  base::Duration stall_timeout = base::Seconds(30);  ///< without a byte
  std::uint32_t max_redirects = 5;
};

/// What is to be got.
struct Order {
  std::string url;
  std::string bearer;          ///< sent to the origin of `url` and to nobody that it redirects to; empty: none
  std::optional<Range> range;  ///< absent: all
  std::string if_range;        ///< with a range: only of the very same file, else all of it
};

/// The head of an answer that is no redirect.
struct Answer {
  int status = 0;
  std::string url;  ///< that answered
  std::optional<std::uint64_t> content_length;
  std::string content_range, content_type, etag;
  std::optional<base::Duration> retry_after;
  std::string error_message;  ///< a hub's X-Error-Message
};

/// Why a transfer ended without all of its bytes.
struct Trouble {
  base::Error error;
  bool passing = false;  ///< it may be other the next time
};

/// One GET, from its order to its end, over redirects.
class Transfer {
 public:
  struct Handlers {
    std::function<bool(const Answer&)> on_head;          ///< false: its body is of no interest, and it ends
    std::function<bool(std::string_view)> on_body;       ///< false: it ends
    std::function<void(std::optional<Trouble>)> on_end;  ///< once, the last; nothing: it ended as it should, or one of the two above ended it
  };
  ~Transfer();

 private:
  friend class Fetcher;
  struct State;
  explicit Transfer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Gets what is ordered over HTTP/1.1, any number of orders at once, by libcurl. Every rule of FetchSettings is kept here: scheme, redirects (never
/// from https to http, bounded), addresses (of each connection, when it is made), certificates. No proxy of the environment is used. One thread, but
/// for wake().
class Fetcher {
 public:
  explicit Fetcher(FetchSettings settings);
  ~Fetcher();
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  /// Handlers run within step(). Letting go of the transfer ends it without a further call; not from its own handlers.
  std::unique_ptr<Transfer> begin(Order order, Transfer::Handlers handlers);
  /// Goes on with what is under way; waits for `at_most` when there is nothing to do.
  void step(base::Duration at_most);
  /// Ends the wait of a step(). Any thread.
  void wake();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace thaw::node::pull
