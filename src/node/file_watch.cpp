#include "node/file_watch.h"

#include <utility>

#include "node/weights/integrity.h"

namespace thaw::node {
namespace {

/// How one of an instance's files differs from what it was; `detail` is empty when it does not.
wire::FilesChanged change_of(base::InstanceId instance, const wire::FileStamp& before,
                             const base::Result<wire::FileStamp>& now) {
  if (now.ok()) return {instance, *now, describe_change(before, *now), false};
  const wire::FileStamp none{before.path, 0, 0, 0};
  switch (now.error().kind) {
    case base::ErrorKind::not_found: return {instance, none, "it is gone", true};
    case base::ErrorKind::invalid: return {instance, none, "it is no regular file any more", false};
    default: return {instance, none, "", false};  // nobody can tell: no answer is no change
  }
}

}  // namespace

FileWatch::FileWatch(base::Duration interval, OnChange on_change)
    : interval_(interval), on_change_(std::move(on_change)), thread_([this] { run(); }) {}

FileWatch::~FileWatch() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FileWatch::watch(base::InstanceId instance, std::vector<wire::FileStamp> files) {
  {
    const std::lock_guard lock(mutex_);
    instances_[instance] = {std::move(files), false};
  }
  changed_.notify_all();
}

void FileWatch::forget(base::InstanceId instance) {
  const std::lock_guard lock(mutex_);
  instances_.erase(instance);
}

void FileWatch::run() {
  std::unique_lock lock(mutex_);
  while (!closing_) {
    if (instances_.empty()) {
      changed_.wait(lock, [this] { return closing_ || !instances_.empty(); });
      continue;
    }
    if (changed_.wait_for(lock, interval_, [this] { return closing_; })) return;
    const auto looked_at = instances_;
    lock.unlock();
    const Found found = look(looked_at);
    lock.lock();
    auto changes = compare_locked(found);
    lock.unlock();
    for (wire::FilesChanged& change : changes) on_change_(std::move(change));
    lock.lock();
  }
}

/// Each file once: replicas share theirs.
FileWatch::Found FileWatch::look(const std::map<base::InstanceId, Watched>& instances) {
  Found found;
  for (const auto& [instance, watched] : instances) {
    for (const wire::FileStamp& file : watched.files)
      if (!found.contains(file.path)) found.emplace(file.path, stamp_file(file.path));
  }
  return found;
}

std::vector<wire::FilesChanged> FileWatch::compare_locked(const Found& found) {
  std::vector<wire::FilesChanged> changes;
  for (auto at = instances_.begin(); at != instances_.end();) {
    auto& [instance, watched] = *at;
    bool changed = false;
    for (const wire::FileStamp& file : watched.files) {
      const auto now = found.find(file.path);
      if (changed || now == found.end()) continue;  // began to be watched meanwhile
      wire::FilesChanged change = change_of(instance, file, now->second);
      if (change.detail.empty() || (change.gone && std::exchange(watched.said_gone, true))) continue;
      changed = !change.gone;
      changes.push_back(std::move(change));
    }
    at = changed ? instances_.erase(at) : std::next(at);
  }
  return changes;
}

}  // namespace thaw::node
