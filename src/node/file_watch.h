#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "wire/messages.h"

namespace thaw::node {

/// The problem: an engine maps its model, so that whoever writes to the file changes what runs, half old and half new. This
/// notices it within an interval, by looking at the stamps of the files of running instances. Looking, and not being told
/// by inotify: that is silent on network file systems and for changes on another machine, needs a watch a file (the host has
/// few), and reports each of a million writes of one copy. A look costs a microsecond a file.
/// Thread: one of its own, asleep while nothing runs; a file system that hangs holds up nobody else.
class FileWatch {
 public:
  /// Called on the watch's thread; may arrive after forget().
  using OnChange = std::function<void(wire::FilesChanged)>;

  FileWatch(base::Duration interval, OnChange on_change);
  ~FileWatch();
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

  /// From now on; `files` as they were when the instance's engine was about to open them. A change is told once; a file that
  /// is gone is too, and watched on: the instance still has it, unchanged, but another may come to its place.
  void watch(base::InstanceId instance, std::vector<wire::FileStamp> files);
  void forget(base::InstanceId instance);

 private:
  struct Watched {
    std::vector<wire::FileStamp> files;
    bool said_gone = false;
  };
  using Found = std::map<std::string, base::Result<wire::FileStamp>>;

  void run();
  [[nodiscard]] static Found look(const std::map<base::InstanceId, Watched>& instances);
  [[nodiscard]] std::vector<wire::FilesChanged> compare_locked(const Found& found);

  const base::Duration interval_;
  const OnChange on_change_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<base::InstanceId, Watched> instances_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace thaw::node
