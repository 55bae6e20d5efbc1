#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "node/logs/log_file.h"

namespace thaw::node {

/// The output of one engine: goes to its model's log, which replicas share, and the last lines are kept for the report of its end. Thread-safe.
class EngineLog {
 public:
  struct Shared {
    std::mutex mutex;
    LogFile file;
    explicit Shared(LogFile opened) : file(std::move(opened)) {}
  };

  explicit EngineLog(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  void append(std::string_view text);
  /// At most 2 KiB, from a line's start.
  [[nodiscard]] std::string tail() const;

 private:
  std::shared_ptr<Shared> shared_;  ///< null when the log cannot be opened: the engine runs all the same
  mutable std::mutex mutex_;
  std::string tail_;
};

/// The open logs of this node: one file a model, closed with its last engine. Thread-safe.
class EngineLogs {
 public:
  EngineLogs(std::string data_dir, std::uint64_t max_bytes) : data_dir_(std::move(data_dir)), max_bytes_(max_bytes) {}
  std::shared_ptr<EngineLog> open(const base::ModelName& model);

 private:
  std::string data_dir_;
  std::uint64_t max_bytes_;
  std::mutex mutex_;
  std::map<base::ModelName, std::weak_ptr<EngineLog::Shared>> open_;
};

}  // namespace thaw::node
