#include "audit/chain_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "audit/segments.h"

namespace thaw::audit {
namespace {

Record note(const char* action, std::string subject, std::string detail, std::int64_t unix_ms) {
  Record record;
  record.unix_ms = unix_ms;
  record.action = action;
  record.who = "local";
  record.subject = std::move(subject);
  record.detail = std::move(detail);
  return record;
}

base::Result<std::optional<Record>> last_record(const std::string& path) {
  std::optional<Record> last;
  THAW_RETURN_IF_ERROR(each_line(path, 0, [&last](const Line& line) {
    if (auto record = decode(line.text); record.ok()) last = std::move(*record);
    return true;
  }));
  return last;
}

}  // namespace

ChainWriter::ChainWriter(std::string directory, std::uint64_t segment_bytes, const SigningKey& key)
    : directory_(std::move(directory)), segment_bytes_(segment_bytes), key_(key) {}

base::Status ChainWriter::open(const Continuation& from) {
  tip_ = {from.last_seq, from.last_hash};
  if (from.segment.empty()) {
    sealed_ = true;  // the first write begins a file
    return {};
  }
  path_ = from.segment;
  durable_bytes_ = from.segment_bytes;
  file_.reset(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  if (file_.get() < 0) return base::errno_error("cannot open " + path_, errno);
  return {};
}

base::Status ChainWriter::append(std::span<Record> records) {
  if (records.empty()) return {};
  if (!sealed_ && durable_bytes_ >= segment_bytes_) THAW_RETURN_IF_ERROR(rotate(records.front().unix_ms));
  if (sealed_) THAW_RETURN_IF_ERROR(begin_segment());
  return write_group(records);
}

base::Status ChainWriter::write_group(std::span<Record> records) {
  if (cut_needed_) {
    if (::ftruncate(file_.get(), static_cast<off_t>(durable_bytes_)) != 0 || ::fsync(file_.get()) != 0)
      return base::errno_error("cannot cut what a failed write left in " + path_, errno);
    cut_needed_ = false;
  }
  THAW_RETURN_IF_ERROR(check_untouched());
  Tip tip = tip_;
  std::string text;
  for (Record& record : records) {
    record.seq = tip.seq + 1;
    record.prev = tip.hash;
    const std::string line = encode(record);
    record.hash = line.substr(line.size() - kHashDigits - 2, kHashDigits);
    tip = {record.seq, record.hash};
    text.append(line).append("\n");
  }
  cut_needed_ = true;
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::pwrite(file_.get(), text.data() + written, text.size() - written,
                                   static_cast<off_t>(durable_bytes_ + written));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::errno_error("cannot write " + path_, errno);
    written += static_cast<std::size_t>(count);
  }
  if (::fdatasync(file_.get()) != 0) return base::errno_error("cannot make " + path_ + " durable", errno);
  cut_needed_ = false;
  durable_bytes_ += text.size();
  tip_ = std::move(tip);
  return {};
}

base::Status ChainWriter::check_untouched() {
  struct stat ours {};
  struct stat there {};
  if (::fstat(file_.get(), &ours) != 0) return base::errno_error("cannot look at " + path_, errno);
  const bool same = ::stat(path_.c_str(), &there) == 0 && there.st_ino == ours.st_ino && there.st_dev == ours.st_dev;
  if (same && static_cast<std::uint64_t>(ours.st_size) == durable_bytes_) return {};
  return base::Error{
      base::ErrorKind::conflict,
      fmt::format(
          "{} was {} while the server ran; keep a copy, see what `thaw audit verify` says, and start the server again",
          path_, same ? "written to or cut by somebody else" : "removed or put in another's place")};
}

base::Status ChainWriter::rotate(std::int64_t unix_ms) {
  Record seal = note(
      "log.seal", name_of(path_),
      fmt::format("{} bytes; the log goes on in {}", durable_bytes_, name_of(segment_path(directory_, tip_.seq + 2))),
      unix_ms);
  THAW_RETURN_IF_ERROR(write_group({&seal, 1}));
  sealed_ = true;
  THAW_ASSIGN_OR_RETURN(const Head head, key_.sign(tip_.seq, tip_.hash, unix_ms));
  (void)::fchmod(file_.get(), 0400);  // says so to people; what protects it is the chain
  return replace_file(seal_path(path_), encode_head(head) + "\n", 0400);
}

base::Status ChainWriter::begin_segment() {
  const std::string path = segment_path(directory_, tip_.seq + 1);
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (file.get() < 0) return base::errno_error("cannot create " + path, errno);
  if (const base::Status status = sync_directory(directory_); !status.ok()) {
    (void)::unlink(path.c_str());
    return status;
  }
  file_ = std::move(file);
  path_ = path;
  durable_bytes_ = 0;
  cut_needed_ = false;
  sealed_ = false;
  return {};
}

base::Status ChainWriter::expire(std::int64_t before_unix_ms, std::int64_t now_unix_ms) {
  THAW_ASSIGN_OR_RETURN(const auto segments, list_segments(directory_));
  for (const Segment& segment : segments) {
    if (segment.path == path_ || &segment == &segments.back()) break;
    struct stat status {};
    // Written last when its last record was: spares reading files that are young.
    if (::stat(segment.path.c_str(), &status) != 0 ||
        static_cast<std::int64_t>(status.st_mtime) * 1000 >= before_unix_ms)
      break;
    THAW_ASSIGN_OR_RETURN(const auto last, last_record(segment.path));
    if (!last || last->unix_ms >= before_unix_ms) break;
    Record record = note("log.expire", name_of(segment.path), fmt::format("{} {}", last->seq, last->hash), now_unix_ms);
    THAW_RETURN_IF_ERROR(append({&record, 1}));
    if (::unlink(segment.path.c_str()) != 0) return base::errno_error("cannot remove " + segment.path, errno);
    (void)::unlink(seal_path(segment.path).c_str());
    THAW_RETURN_IF_ERROR(sync_directory(directory_));
  }
  return {};
}

}  // namespace thaw::audit
