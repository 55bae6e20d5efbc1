#include "audit/audit_log.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <future>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "audit/chain_writer.h"
#include "audit/head_exporter.h"
#include "audit/recovery.h"
#include "audit/segments.h"
#include "audit/tenant_seals.h"

namespace thaw::audit {
namespace {

constexpr std::chrono::hours kExpireInterval{1};
constexpr std::int64_t kMsPerDay = 86'400'000;
constexpr std::size_t kMaxHeadBytes = 1024;

base::Result<Fd> lock_directory(const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return base::errno_error("cannot create " + directory, error.value());
  if (::chmod(directory.c_str(), 0700) != 0) return base::errno_error("cannot set the mode of " + directory, errno);
  Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return base::errno_error("cannot open " + directory, errno);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
    return base::Error{base::ErrorKind::conflict, "another process writes the audit log in " + directory +
                                                      "; is a server running with this data directory?"};
  return fd;
}

/// The last signed head, when it is there and ours. One that is not says nothing about the log's length.
std::optional<Head> own_head(const std::string& directory, const SigningKey& key) {
  auto text = read_small_file(head_path(directory), kMaxHeadBytes);
  if (!text.ok()) return std::nullopt;
  if (text->ends_with('\n')) text->pop_back();
  auto head = decode_head(*text);
  if (!head.ok() || head->key != key.public_hex() || !signature_holds(*head)) return std::nullopt;
  return std::move(*head);
}

/// What a start adds to the log, in order.
std::vector<Record> opening_records(Continuation from, const SigningKey& key, std::int64_t unix_ms) {
  std::vector<Record> records = std::move(from.notes);
  Record opened;
  opened.action = "log.open";
  opened.detail = std::string(key.made() ? "signed with a new key, " : "signed with key ") + key.public_hex();
  records.push_back(std::move(opened));
  for (Record& record : records) record.who = "local";
  for (Record& record : from.unfinished) {
    record.event = Event::interrupted;
    record.detail = "begun as record " + std::to_string(record.seq) + "; the server died before it had a result";
    records.push_back(std::move(record));
  }
  for (Record& record : records) record.unix_ms = unix_ms;
  return records;
}

}  // namespace

struct AuditLog::Impl {
  struct Waiting {
    Record record;
    std::function<void(base::Status)> done;
  };

  Impl(LogOptions o, Fd lock, SigningKey k, TenantSeals s)
      : options(std::move(o)),
        directory_lock(std::move(lock)),
        key(std::move(k)),
        seals(std::move(s)),
        writer(options.directory, options.segment_bytes, key) {}

  void start() {
    exporter =
        std::make_unique<HeadExporter>(HeadExporter::Options{options.directory, options.export_path,
                                                             options.export_interval, options.unix_ms, options.warn},
                                       key);
    exporter->moved(writer.tip());
    thread = std::thread([this] { run(); });
  }

  void run() {
    std::unique_lock lock(mutex);
    auto next_expiry = std::chrono::steady_clock::now();
    while (true) {
      changed.wait_until(lock, next_expiry, [this] { return stopping || !waiting.empty(); });
      if (!waiting.empty()) {
        std::vector<Waiting> group = take_group();
        lock.unlock();
        write_group(group);
        lock.lock();
        continue;
      }
      if (stopping) return;
      lock.unlock();
      expire();
      lock.lock();
      next_expiry = std::chrono::steady_clock::now() + kExpireInterval;
    }
  }

  std::vector<Waiting> take_group() {
    std::vector<Waiting> group;
    for (; !waiting.empty() && group.size() < kMaxGroup; waiting.pop_front())
      group.push_back(std::move(waiting.front()));
    return group;
  }

  void write_group(std::vector<Waiting>& group) {
    std::vector<Record> records;
    records.reserve(group.size());
    const std::int64_t now_ms = options.unix_ms();
    for (Waiting& one : group) {
      one.record.unix_ms = now_ms;
      records.push_back(std::move(one.record));
    }
    base::Status status = seal(records);
    if (status.ok()) status = writer.append(records);
    if (status.ok()) {
      written += records.size();
      broken = false;
      exporter->moved(writer.tip());
    } else {
      failed += records.size();
      if (!std::exchange(broken, true))
        warn("the audit log cannot be written, administrative acts are refused: " + status.error().message);
    }
    for (Waiting& one : group)
      if (one.done) one.done(status);
  }

  /// What cannot be sealed is not written: in clear it would be there for good.
  base::Status seal(std::vector<Record>& records) {
    for (Record& record : records) {
      if (record.private_to.empty() || record.from.empty()) continue;
      THAW_ASSIGN_OR_RETURN(record.from, seals.seal(record.private_to, record.from));
      record.private_to.clear();
    }
    return {};
  }

  void expire() {
    const std::int64_t now_ms = options.unix_ms();
    const base::Status status =
        writer.expire(now_ms - static_cast<std::int64_t>(options.retention_days) * kMsPerDay, now_ms);
    if (!status.ok()) warn("old audit records cannot be removed: " + status.error().message);
    exporter->moved(writer.tip());
  }

  void warn(const std::string& text) const {
    if (options.warn) options.warn(text);
  }

  const LogOptions options;
  const Fd directory_lock;
  const SigningKey key;
  TenantSeals seals;
  ChainWriter writer;   ///< the thread's, once it runs
  bool broken = false;  ///< the thread's: the last write failed
  std::unique_ptr<HeadExporter> exporter;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Waiting> waiting;
  bool stopping = false;
  std::atomic<std::uint64_t> written = 0, failed = 0;
  std::thread thread;
};

base::Result<std::unique_ptr<AuditLog>> AuditLog::open(LogOptions options) {
  THAW_ASSIGN_OR_RETURN(Fd lock, lock_directory(options.directory));
  THAW_ASSIGN_OR_RETURN(SigningKey key, SigningKey::open_or_make(options.directory));
  THAW_ASSIGN_OR_RETURN(Continuation from, recover(options.directory, own_head(options.directory, key)));
  THAW_ASSIGN_OR_RETURN(TenantSeals seals, TenantSeals::open(options.directory + "/seals"));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(lock), std::move(key), std::move(seals));
  THAW_RETURN_IF_ERROR(impl->writer.open(from));
  for (const Record& note : from.notes) impl->warn("audit log: " + note.subject + ": " + note.detail);
  std::vector<Record> records = opening_records(std::move(from), impl->key, impl->options.unix_ms());
  THAW_RETURN_IF_ERROR(impl->writer.append(records));
  impl->written = records.size();
  impl->start();
  return std::unique_ptr<AuditLog>(new AuditLog(std::move(impl)));
}

AuditLog::AuditLog(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

AuditLog::~AuditLog() {
  Record closed;
  closed.action = "log.close";
  closed.who = "local";
  append(std::move(closed), nullptr);
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->changed.notify_all();
  impl_->thread.join();
}

void AuditLog::append(Record record, std::function<void(base::Status)> done) {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->waiting.size() < kMaxWaiting) {
      impl_->waiting.push_back({std::move(record), std::move(done)});
      impl_->changed.notify_all();
      return;
    }
  }
  ++impl_->failed;
  if (done) done(base::Error{base::ErrorKind::exhausted, "too many records wait for the audit log's disk"});
}

base::Status AuditLog::write(Record record) {
  std::promise<base::Status> written;
  append(std::move(record), [&written](base::Status status) { written.set_value(std::move(status)); });
  return written.get_future().get();
}

base::Result<bool> AuditLog::shred(const std::string& tenant) {
  return impl_->seals.shred(tenant);
}

std::uint64_t AuditLog::written() const {
  return impl_->written;
}
std::uint64_t AuditLog::failed() const {
  return impl_->failed;
}
std::uint64_t AuditLog::failed_exports() const {
  return impl_->exporter->failed();
}

}  // namespace thaw::audit
