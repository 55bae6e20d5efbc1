#include "node/weights/page_out.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>

#include <fmt/format.h>

#include "base/units.h"
#include "node/sandbox/fd.h"
#include "node/weights/mappers.h"
#include "node/weights/residency.h"

namespace thaw::node {
namespace {

constexpr std::size_t kMappingsAtOnce = 1'024;  // the kernel's UIO_MAXIOV
constexpr std::size_t kPidsNamed = 5;
constexpr int kDropTries = 3;

struct OpenFile {
  std::string path;
  Fd fd;
  std::uint64_t bytes = 0;
};

base::Result<std::vector<OpenFile>> open_files(const std::vector<std::string>& paths) {
  std::vector<OpenFile> files;
  for (const std::string& path : paths) {
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd && errno == ENOENT) continue;
    if (!fd) return base::errno_error("cannot open " + path, errno);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return base::errno_error("cannot look at " + path, errno);
    if (!S_ISREG(status.st_mode)) return base::Error{base::ErrorKind::invalid, path + " is no regular file"};
    files.push_back({path, std::move(fd), static_cast<std::uint64_t>(status.st_size)});
  }
  return files;
}

base::Result<std::uint64_t> count_range(const OpenFile& file, std::uint64_t offset, std::uint64_t bytes) {
  const auto resident = resident_bytes(file.fd.get(), offset, bytes);
  if (resident) return *resident;
  return base::Error{base::ErrorKind::denied,
                     "the kernel does not say how much of " + file.path + " is in memory; only its owner may ask"};
}

base::Result<std::uint64_t> count(const std::vector<OpenFile>& files) {
  std::uint64_t bytes = 0;
  for (const OpenFile& file : files) {
    THAW_ASSIGN_OR_RETURN(const std::uint64_t resident, count_range(file, 0, file.bytes));
    bytes += resident;
  }
  return bytes;
}

void drop_unmapped(const std::vector<OpenFile>& files) {
  for (const OpenFile& file : files) ::posix_fadvise(file.fd.get(), 0, 0, POSIX_FADV_DONTNEED);
}

/// From the end of the files towards the front, until `bytes` have left.
base::Status drop_tail(const std::vector<OpenFile>& files, std::uint64_t bytes) {
  for (auto file = files.rbegin(); file != files.rend(); ++file) {
    for (std::uint64_t end = file->bytes; end > 0;) {
      const std::uint64_t begin = (end - 1) / kTailStep_bytes * kTailStep_bytes;
      THAW_ASSIGN_OR_RETURN(const std::uint64_t before, count_range(*file, begin, end - begin));
      if (before > 0) {
        // Without a length for the last step: the kernel keeps a page that a range covers in part.
        ::posix_fadvise(file->fd.get(), static_cast<off_t>(begin),
                        end == file->bytes ? 0 : static_cast<off_t>(end - begin), POSIX_FADV_DONTNEED);
        THAW_ASSIGN_OR_RETURN(const std::uint64_t after, count_range(*file, begin, end - begin));
        const std::uint64_t left = before > after ? before - after : 0;
        if (left >= bytes) return {};
        bytes -= left;
      }
      end = begin;
    }
  }
  return {};
}

/// Takes what `mapper` alone maps out of its address space and out of memory. Empty, or why the kernel refused.
std::string page_out_mappings(const Mapper& mapper) {
  // pidfd_open(2) is in Debian 12's glibc, process_madvise(2) in newer ones.
  const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, mapper.pid, 0U)));
  if (!process)
    return errno == ESRCH
               ? std::string()
               : fmt::format("cannot open process {}: {}", mapper.pid, std::generic_category().message(errno));
  std::vector<iovec> left;
  for (const Mapping& mapping : mapper.mappings)
    left.push_back({reinterpret_cast<void*>(mapping.address), mapping.bytes});  // NOLINT(performance-no-int-to-ptr)
  for (std::size_t done = 0; done < left.size();) {
    const std::size_t some = std::min(left.size() - done, kMappingsAtOnce);
    const long advised = ::syscall(SYS_process_madvise, process.get(), &left[done], some, MADV_PAGEOUT, 0U);
    if (advised < 0 && errno == EINTR) continue;
    if (advised < 0 && errno == ESRCH) return {};
    if (advised < 0)
      return fmt::format("process_madvise of process {}: {}", mapper.pid, std::generic_category().message(errno));
    if (advised == 0) return fmt::format("process_madvise of process {} did nothing", mapper.pid);
    // It stops in the middle of a range when it must: go on where it stopped.
    for (auto bytes = static_cast<std::size_t>(advised); bytes > 0 && done < left.size();) {
      const std::size_t step = std::min(bytes, left[done].iov_len);
      left[done].iov_base = static_cast<char*>(left[done].iov_base) + step;
      left[done].iov_len -= step;
      bytes -= step;
      if (left[done].iov_len == 0) ++done;
    }
  }
  return {};
}

constexpr const char* kKernelHoldsIt = "the kernel holds it: it is being read or written, or locked";

std::string name_pids(const std::vector<pid_t>& pids) {
  const std::size_t named = std::min(pids.size(), kPidsNamed);
  const std::string more = pids.size() > named ? fmt::format(" and {} more", pids.size() - named) : "";
  return fmt::format("{} {}{}", pids.size() == 1 ? "process" : "processes",
                     fmt::join(pids.begin(), pids.begin() + static_cast<std::ptrdiff_t>(named), ", "), more);
}

std::vector<pid_t> pids_of(const std::vector<Mapper>& mappers) {
  std::vector<pid_t> pids;
  for (const Mapper& mapper : mappers) pids.push_back(mapper.pid);
  return pids;
}

/// The rungs of the ladder in page_out.h, each for what the one before has left.
class Ladder {
 public:
  Ladder(const std::vector<OpenFile>& files, const std::vector<StoppedInstance>& stopped)
      : files_(files), stopped_(stopped) {}

  base::Status climb(const std::vector<Mapper>& mappers) {
    drop_unmapped(files_);
    for (const Mapper& mapper : mappers) note(page_out_mappings(mapper));
    // A page that somebody looks at in this very moment stays, and is gone with the next try.
    for (int tries = 0; tries < kDropTries; ++tries) {
      drop_unmapped(files_);
      THAW_ASSIGN_OR_RETURN(left_bytes_, count(files_));
      if (left_bytes_ == 0) return {};
    }
    for (const StoppedInstance& instance : stopped_) {
      if (left_bytes_ == 0 || mappers.empty()) break;
      if (!instance.group) continue;
      if (const auto reclaimed = instance.group->reclaim(left_bytes_); !reclaimed.ok()) note(reclaimed.error().message);
      drop_unmapped(files_);
      THAW_ASSIGN_OR_RETURN(left_bytes_, count(files_));
    }
    return {};
  }

  [[nodiscard]] std::uint64_t left_bytes() const { return left_bytes_; }
  [[nodiscard]] std::string why_left(const std::vector<Mapper>& mappers) const {
    if (left_bytes_ == 0) return {};
    if (!trouble_.empty()) return trouble_;
    if (mappers.size() > 1)
      return "several stopped processes map it and it is charged to neither: " + name_pids(pids_of(mappers));
    if (mappers.size() == 1) return name_pids(pids_of(mappers)) + " holds it";
    return kKernelHoldsIt;
  }

 private:
  void note(std::string trouble) {
    if (trouble_.empty()) trouble_ = std::move(trouble);
  }

  const std::vector<OpenFile>& files_;
  const std::vector<StoppedInstance>& stopped_;
  std::uint64_t left_bytes_ = 0;
  std::string trouble_;
};

}  // namespace

base::Result<PageOut> page_out(const std::vector<std::string>& files, const std::vector<StoppedInstance>& stopped) {
  PageOut report;
  THAW_ASSIGN_OR_RETURN(const std::vector<OpenFile> open, open_files(files));
  THAW_ASSIGN_OR_RETURN(report.before_bytes, count(open));
  report.after_bytes = report.before_bytes;
  if (report.before_bytes == 0) return report;

  const std::vector<Mapper> mappers = find_mappers(files);
  for (const Mapper& mapper : mappers) {
    const bool is_stopped = std::any_of(stopped.begin(), stopped.end(), [&](const StoppedInstance& instance) {
      return std::find(instance.pids.begin(), instance.pids.end(), mapper.pid) != instance.pids.end();
    });
    if (!is_stopped) report.running.push_back(mapper.pid);
  }
  if (!report.running.empty()) {
    report.why_left = "in use by " + name_pids(report.running);
    return report;
  }
  Ladder ladder(open, stopped);
  THAW_RETURN_IF_ERROR(ladder.climb(mappers));
  report.after_bytes = ladder.left_bytes();
  report.why_left = ladder.why_left(mappers);
  return report;
}

base::Result<PageOut> page_out_read(const std::vector<std::string>& files, std::size_t engines) {
  const std::vector<Mapper> mappers = find_mappers(files);
  if (mappers.size() > engines) return page_out(files);  // whose report names them
  StoppedInstance readers;
  readers.pids = pids_of(mappers);
  return page_out(files, {readers});
}

base::Result<PageOut> page_out_tail(const std::vector<std::string>& files, std::uint64_t keep_bytes) {
  PageOut report;
  THAW_ASSIGN_OR_RETURN(const std::vector<OpenFile> open, open_files(files));
  THAW_ASSIGN_OR_RETURN(report.before_bytes, count(open));
  report.after_bytes = report.before_bytes;
  for (int tries = 0; tries < kDropTries && report.after_bytes > keep_bytes; ++tries) {
    THAW_RETURN_IF_ERROR(drop_tail(open, report.after_bytes - keep_bytes));
    THAW_ASSIGN_OR_RETURN(report.after_bytes, count(open));
  }
  if (report.after_bytes <= keep_bytes) return report;
  report.running = pids_of(find_mappers(files));
  report.why_left = report.running.empty() ? std::string(kKernelHoldsIt) : "mapped by " + name_pids(report.running);
  return report;
}

}  // namespace thaw::node
