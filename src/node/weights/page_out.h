#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/sandbox/cgroup.h"

/// The problem: weights in the page cache are memory that somebody else needs now. The kernel has three calls to make
/// pages leave, and each of them reports success for pages that stay: posix_fadvise(DONTNEED) passes mapped pages over,
/// process_madvise(PAGEOUT) those with a second mapper, and the reclaim of a control group reaches only pages that are
/// charged to it. So: use them in that order, then count.
///
///     who maps the pages                      what takes them out
///     nobody                                  posix_fadvise(DONTNEED)
///     one stopped process                     process_madvise(PAGEOUT), then posix_fadvise for what it had not mapped
///     several stopped processes               reclaim of the group the pages are charged to, which unmaps them
///     everywhere. Pages that the
///                                             node itself has read ahead are charged to the node: those stay until but
///                                             one mapper is gone
///     somebody who runs                       nothing: it would read them again at once, from the disk
///
/// Stateless; any thread; blocking: 10 to 20 ms a GB, and a look at every process of the host.
namespace thaw::node {

/// A stopped (frozen) instance whose mappings may be paged out.
struct StoppedInstance {
  std::vector<pid_t> pids;  ///< all of its processes. Not reaped, so that none of the numbers can mean another by now
  std::optional<Cgroup>
      group;  ///< its own, with nobody else in it; absent: pages shared with another stopped instance stay
};

struct PageOut {
  std::uint64_t before_bytes = 0;  ///< of the files in the page cache when it began, as the kernel counts
  std::uint64_t after_bytes = 0;   ///< when it ended: what did not leave is still held, and must stay charged
  std::vector<pid_t>
      running;  ///< processes that map a file and belong to no stopped instance. If there are any, nothing was done
  std::string why_left;  ///< one line for people on what did not leave; empty when all did

  [[nodiscard]] std::uint64_t freed_bytes() const {
    return before_bytes > after_bytes ? before_bytes - after_bytes : 0;
  }
};

/// Takes the files out of the page cache, all of them. Bytes that did not leave are no error but the report's content;
/// trying again helps once a mapper is gone. Files that do not exist hold nothing. Errors: denied where the kernel does
/// not say what is resident (not the files' owner), io, invalid.
base::Result<PageOut> page_out(const std::vector<std::string>& files, const std::vector<StoppedInstance>& stopped = {});

/// As page_out(), of files that engines which run have read and need no more (they computed copies). At most `engines` processes may
/// map them: with more, somebody else does, and nothing is done. What an engine looks at again comes back from the disk.
base::Result<PageOut> page_out_read(const std::vector<std::string>& files, std::size_t engines);

/// Takes what nobody maps out of the page cache, from the end of the files towards the front and in steps of
/// kTailStep_bytes, until at most `keep_bytes` are there: an engine reads from the front while the rest comes in. When
/// more stay, why_left says why and `running` who maps them. Otherwise as page_out(), but looks at other processes only
/// then.
base::Result<PageOut> page_out_tail(const std::vector<std::string>& files, std::uint64_t keep_bytes);

constexpr std::uint64_t kTailStep_bytes = 2ULL << 20;  // no folio is larger, so none lies across two steps

}  // namespace thaw::node
