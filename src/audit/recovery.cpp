#include "audit/recovery.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <ranges>

#include <fmt/format.h>

#include "audit/durable_file.h"
#include "audit/segments.h"

namespace thaw::audit {
namespace {

constexpr std::size_t kMaxTornBytes = 256UL << 20U;

Record note(const char* action, const std::string& subject, std::string detail) {
  Record record;
  record.action = action;
  record.subject = subject;
  record.detail = std::move(detail);
  return record;
}

struct Scan {
  std::optional<Record> last;      ///< the last whole record
  std::uint64_t good_bytes = 0;    ///< up to its end
  std::uint64_t bytes = 0;         ///< of the file
  std::uint64_t damaged_line = 0;  ///< the first line that is no record, before the last whole one; 0: none
  std::map<std::string, Record> begun;
};

/// Acts are told apart by their request's id, which never repeats.
void follow_act(const Record& record, std::map<std::string, Record>& begun) {
  if (record.event == Event::begun && begun.size() < Continuation::kMaxUnfinished)
    begun.emplace(record.request, record);
  if (record.event == Event::done || record.event == Event::interrupted) begun.erase(record.request);
}

base::Result<Scan> scan(const std::string& path) {
  Scan found;
  std::uint64_t suspect = 0;
  THAW_RETURN_IF_ERROR(each_line(path, 0, [&](const Line& line) {
    found.bytes = line.end;
    auto record = decode(line.text);
    if (!record.ok() || !line.complete) {
      if (suspect == 0) suspect = line.number;
      return true;
    }
    if (found.damaged_line == 0) found.damaged_line = suspect;
    follow_act(*record, found.begun);
    found.good_bytes = line.end;
    found.last = std::move(*record);
    return true;
  }));
  return found;
}

/// Keeps bytes [from, to) of a file under another name; returns that name.
base::Result<std::string> keep_torn(const std::string& path, std::uint64_t from, std::uint64_t to,
                                    std::string& digest) {
  if (to - from > kMaxTornBytes)
    return base::Error{
        base::ErrorKind::invalid,
        fmt::format("{}: {} bytes behind byte {} are no records: no write was ever so long; move the file to a safe "
                    "place, run `thaw audit verify`, and start again",
                    path, to - from, from)};
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return base::errno_error("cannot read " + path, errno);
  std::string torn(to - from, '\0');
  std::size_t have = 0;
  while (have < torn.size()) {
    const ssize_t count = ::pread(file.get(), torn.data() + have, torn.size() - have, static_cast<off_t>(from + have));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return base::errno_error("cannot read " + path, count < 0 ? errno : EIO);
    have += static_cast<std::size_t>(count);
  }
  digest = sha256_hex(torn);
  const std::string kept = fmt::format("{}/torn-{}-{}.bin", path.substr(0, path.rfind('/')), name_of(path), from);
  THAW_RETURN_IF_ERROR(replace_file(kept, torn, 0400));
  return name_of(kept);
}

base::Status cut(const std::string& path, std::uint64_t bytes) {
  const Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (file.get() < 0) return base::errno_error("cannot open " + path, errno);
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) return base::errno_error("cannot cut " + path, errno);
  if (::fsync(file.get()) != 0) return base::errno_error("cannot make " + path + " durable", errno);
  return {};
}

base::Status cut_torn(const std::string& path, const Scan& found, Continuation& into) {
  std::string digest;
  THAW_ASSIGN_OR_RETURN(const std::string kept, keep_torn(path, found.good_bytes, found.bytes, digest));
  THAW_RETURN_IF_ERROR(cut(path, found.good_bytes));
  into.notes.push_back(note("log.repair", name_of(path),
                            fmt::format("cut {} bytes of a write that never ended, at byte {}; kept as {}, sha256 {}",
                                        found.bytes - found.good_bytes, found.good_bytes, kept, digest)));
  return {};
}

}  // namespace

base::Result<Continuation> recover(const std::string& directory, const std::optional<Head>& head) {
  Continuation into;
  THAW_ASSIGN_OR_RETURN(const auto segments, list_segments(directory));
  bool last_file = true;
  for (const Segment& segment : std::views::reverse(segments)) {
    THAW_ASSIGN_OR_RETURN(const Scan found, scan(segment.path));
    if (last_file && found.bytes > found.good_bytes) THAW_RETURN_IF_ERROR(cut_torn(segment.path, found, into));
    if (last_file && (!found.last || found.last->action != "log.seal")) {
      into.segment = segment.path;
      into.segment_bytes = found.good_bytes;
    }
    last_file = false;
    if (!found.last) continue;  // made just before the end
    into.last_seq = found.last->seq;
    into.last_hash = found.last->hash;
    for (const auto& [request, record] : found.begun) into.unfinished.push_back(record);
    if (found.damaged_line != 0)
      into.notes.push_back(
          note("log.damage", name_of(segment.path),
               fmt::format("line {} is no record of this log; it was left as it is", found.damaged_line)));
    break;
  }
  if (head && head->seq > into.last_seq) {
    into.notes.push_back(
        note("log.damage", name_of(head_path(directory)),
             fmt::format("the log ends with record {}, but record {} was signed on {}: what is between was removed",
                         into.last_seq, head->seq, format_time(head->unix_ms))));
    into.last_seq = head->seq;
    into.last_hash = head->hash;
  }
  return into;
}

}  // namespace thaw::audit
