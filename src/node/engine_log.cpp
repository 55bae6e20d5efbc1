#include "node/engine_log.h"

#include <spdlog/spdlog.h>

#include "node/agent.h"

namespace thaw::node {
namespace {

constexpr std::size_t kTail_bytes = 2048;  // InstanceDown::log_tail

}  // namespace

void EngineLog::append(std::string_view text) {
  if (shared_) {
    const std::lock_guard lock(shared_->mutex);
    shared_->file.append(text);
  }
  const std::lock_guard lock(mutex_);
  tail_ += text.substr(text.size() > kTail_bytes ? text.size() - kTail_bytes : 0);
  if (tail_.size() > kTail_bytes) tail_.erase(0, tail_.size() - kTail_bytes);
}

std::string EngineLog::tail() const {
  const std::lock_guard lock(mutex_);
  if (tail_.size() < kTail_bytes) return tail_;
  const std::size_t line = tail_.find('\n');  // the first one was cut
  return line == std::string::npos ? tail_ : tail_.substr(line + 1);
}

std::shared_ptr<EngineLog> EngineLogs::open(const base::ModelName& model) {
  const std::lock_guard lock(mutex_);
  std::erase_if(open_, [](const auto& entry) { return entry.second.expired(); });
  if (const auto found = open_.find(model); found != open_.end())
    if (auto shared = found->second.lock()) return std::make_shared<EngineLog>(std::move(shared));
  auto file = LogFile::open(log_path(data_dir_, model), max_bytes_);
  if (!file.ok()) {
    spdlog::warn("model {}: its engine's output is not kept: {}", model.str(), file.error().message);
    return std::make_shared<EngineLog>(nullptr);
  }
  auto shared = std::make_shared<EngineLog::Shared>(std::move(file).value());
  open_[model] = shared;
  return std::make_shared<EngineLog>(std::move(shared));
}

}  // namespace thaw::node
