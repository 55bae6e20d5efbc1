#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "audit/chain_writer.h"
#include "audit/signing_key.h"
#include "base/time.h"

namespace thaw::audit {

/// Signs the log's tip and leaves it beside the log and at the export path, on a thread of its own, at most once an
/// interval and only when there are new records. A head that could not be exported is tried again with the next
/// interval, by then as a newer one.
class HeadExporter {
 public:
  struct Options {
    std::string directory;
    std::string export_path;  ///< empty: none
    base::Duration interval;
    std::function<std::int64_t()> unix_ms;
    std::function<void(const std::string&)> warn;
  };

  HeadExporter(Options options, const SigningKey& key);  ///< `key` outlives this
  ~HeadExporter();                                       ///< exports a last head
  HeadExporter(const HeadExporter&) = delete;
  HeadExporter& operator=(const HeadExporter&) = delete;

  void moved(const Tip& tip);  ///< to durable records; any thread
  [[nodiscard]] std::uint64_t failed() const { return failed_; }

 private:
  void run();
  base::Status leave(const Tip& tip);

  const Options options_;
  const SigningKey& key_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Tip tip_;
  bool stopping_ = false;
  std::uint64_t left_seq_ = 0;  ///< the thread's
  bool warned_ = false;         ///< the thread's: says so once, until it works again
  std::atomic<std::uint64_t> failed_ = 0;
  std::thread thread_;
};

}  // namespace thaw::audit
