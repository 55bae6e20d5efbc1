#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/pull/blob_store.h"
#include "node/pull/fetcher.h"
#include "node/pull/part_file.h"
#include "node/pull/range_plan.h"
#include "node/pull/settler.h"

namespace thaw::node::pull {

/// How a pull is going; read by other threads.
struct Progress {
  std::atomic<std::uint64_t> total_bytes{0};    ///< of what is known to come
  std::atomic<std::uint64_t> done_bytes{0};     ///< there, also from before
  std::atomic<std::uint64_t> fetched_bytes{0};  ///< came over the network
};

struct FetchLimits {
  std::size_t connections = 8;
  Backoff backoff;
  base::Duration longest_retry_after = base::Seconds(120);  ///< a server that asks for more is left alone
  std::uint32_t changes = 3;                                ///< times that the file may change while it is fetched
  std::size_t blocks = Settler::kBlocks;                    ///< MiB of memory for what is to be written and hashed
};

/// One file to be fetched.
struct FileOrder {
  std::string label;  ///< for errors: "org/repo/model.gguf", an URL
  std::string url;
  std::string bearer;
  std::string name;                             ///< that it is to have
  std::optional<std::uint64_t> expected_bytes;  ///< a hub says it
  std::string expected_sha256;
  std::string expected_git_blob;
};

/// Names its part in the store: by what it must be, else by where it is.
std::string part_key(const FileOrder& order);

/// Fetches one file into the store. Where the server takes ranges (RFC 9110, 14) several connections fetch parts side by side, and what is
/// durable of an earlier try is not fetched again; where it does not, one connection fetches it from front to back. The file gets its name only when
/// all of it is durable and its digest is what was expected. Blocking; one thread, the fetcher's.
///
///     first connection ──► 206: the others begin ──► all ranges there ──► durable, hashed ──► checked ──► named
///                      └─► 200: it stays alone   ──► its end comes    ──┘
///     another ETag, length or a 416 while parts are there: the file changed, and all begins again (FetchLimits::changes times)
class FileFetch {
 public:
  FileFetch(FileOrder order, Fetcher& fetcher, BlobStore& store, Progress& progress, const FetchLimits& limits, const std::atomic<bool>& cancelled);
  ~FileFetch();
  FileFetch(const FileFetch&) = delete;
  FileFetch& operator=(const FileFetch&) = delete;

  /// Errors: not_found, denied (by the server, or by our rules), conflict (it has other bytes than expected, or changes all the time), unavailable
  /// (the network, after all tries; cancelled), exhausted (no room), io (the disk), invalid (a server that does not keep to HTTP).
  base::Result<PulledFile> run();

 private:
  enum class Mode { unknown, ranges, stream };
  struct Lane {
    std::unique_ptr<Transfer> transfer;
    std::optional<Range> range;  ///< claimed; in stream mode from the beginning
    std::uint64_t at = 0;        ///< next byte
    Block* open = nullptr;       ///< the settler's, that is being filled
    std::uint32_t attempts = 0;  ///< in a row that brought nothing
    std::uint64_t brought = 0;   ///< by this one
    base::TimePoint retry_at{}, asked_at{}, answered_at{};
    std::uint64_t piece_bytes = RangePlan::kUsual;  ///< that it is to ask for
    bool ended = false;                             ///< its transfer is to be let go of
    bool retired = false;                           ///< the server wants fewer connections
    std::optional<base::Duration> asked_to_wait;
  };

  base::Status wait_for_key();
  base::Status open_part();
  base::Status begin_again(bool stream_only);
  void restart_stream();
  base::Status resume_from_journal();
  base::Status settle(Journal journal, bool resumable);
  base::Status know_total(std::uint64_t bytes);
  void count_total(std::uint64_t bytes);
  void order_lanes();
  void order(Lane& lane);
  bool on_head(Lane& lane, const Answer& answer);
  bool on_partial(Lane& lane, const Answer& answer);
  bool on_whole(Lane& lane, const Answer& answer);
  bool on_refusal(Lane& lane, const Answer& answer);
  bool on_body(Lane& lane, std::string_view bytes);
  void on_end(Lane& lane, std::optional<Trouble> trouble);
  void measure(Lane& lane);
  void try_again(Lane& lane, const base::Error& why);
  bool fail(base::Error error);
  bool changed();
  [[nodiscard]] bool complete() const;
  [[nodiscard]] std::size_t busy_lanes() const;
  base::Result<PulledFile> check_and_keep();
  base::Status check(const std::string& sha256);

  const FileOrder order_;
  Fetcher& fetcher_;
  BlobStore& store_;
  Progress& progress_;
  const FetchLimits& limits_;
  const std::atomic<bool>& cancelled_;
  const std::string key_;
  bool holds_key_ = false;
  std::optional<PartFile> part_;
  Mode mode_ = Mode::unknown;
  std::optional<std::uint64_t> total_bytes_;
  bool total_settled_ = false;  ///< room for it was found
  std::string etag_;
  std::optional<RangePlan> plan_;
  std::unique_ptr<Settler> settler_;
  std::deque<Lane> lanes_;  ///< handlers point into it
  std::uint64_t stream_end_ = 0;
  bool stream_ended_ = false;
  bool stream_only_ = false;
  bool changed_ = false;
  bool all_there_ = false;
  std::uint32_t changes_ = 0;
  base::Duration shortest_wait_ = base::Duration::max();  ///< of the server, for the first byte of a range
  std::uint64_t counted_done_ = 0;                        ///< of progress_.done_bytes, ours
  std::uint64_t counted_total_ = 0;                       ///< of progress_.total_bytes, ours
  std::optional<base::Error> failure_;
};

}  // namespace thaw::node::pull
