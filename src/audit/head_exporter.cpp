#include "audit/head_exporter.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "audit/durable_file.h"
#include "audit/segments.h"

namespace thaw::audit {
namespace {

/// A reader takes a line for a head only when it has its newline, so that a write that broke off is closed by one.
base::Status append_line(const std::string& path, const std::string& line) {
  const Fd file(::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  if (file.get() < 0) return base::errno_error("cannot open " + path, errno);
  char last = '\n';
  if (const off_t end = ::lseek(file.get(), 0, SEEK_END); end > 0) (void)!::pread(file.get(), &last, 1, end - 1);
  THAW_RETURN_IF_ERROR(write_all(file.get(), (last == '\n' ? "" : "\n") + line + "\n", path));
  if (::fsync(file.get()) != 0 && errno != EINVAL)
    return base::errno_error("cannot make " + path + " durable", errno);  // EINVAL: a pipe or a device
  return {};
}

}  // namespace

HeadExporter::HeadExporter(Options options, const SigningKey& key)
    : options_(std::move(options)), key_(key), thread_([this] { run(); }) {}

HeadExporter::~HeadExporter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void HeadExporter::moved(const Tip& tip) {
  {
    const std::lock_guard lock(mutex_);
    tip_ = tip;
  }
  changed_.notify_all();
}

void HeadExporter::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || tip_.seq > left_seq_; });
    if (tip_.seq > left_seq_) {
      const Tip tip = tip_;
      lock.unlock();
      const base::Status status = leave(tip);
      lock.lock();
      if (status.ok()) {
        left_seq_ = tip.seq;
        warned_ = false;
      } else {
        ++failed_;
        if (!std::exchange(warned_, true) && options_.warn)
          options_.warn("the audit log's head could not be left: " + status.error().message);
        if (stopping_) return;
      }
    }
    if (stopping_ && tip_.seq <= left_seq_) return;
    changed_.wait_for(lock, options_.interval, [this] { return stopping_; });
  }
}

base::Status HeadExporter::leave(const Tip& tip) {
  THAW_ASSIGN_OR_RETURN(const Head head, key_.sign(tip.seq, tip.hash, options_.unix_ms()));
  const std::string line = encode_head(head);
  THAW_RETURN_IF_ERROR(replace_file(head_path(options_.directory), line + "\n", 0644));
  if (options_.export_path.empty()) return {};
  return append_line(options_.export_path, line);
}

}  // namespace thaw::audit
