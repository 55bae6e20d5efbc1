#include "node/pull/file_fetch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "base/units.h"
#include "node/pull/git_blob.h"
#include "node/pull/journal.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/files.h"

namespace thaw::node::pull {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::uint64_t kFirstAsk = 8ULL << 20;  // while the length is not known
constexpr std::uint64_t kWorthIt = 64ULL << 10;  // a try that brought so much was none in vain
constexpr auto kStep = base::Millis(100);
constexpr std::uint64_t kMaxFile = 1ULL << 50;

}  // namespace

std::string part_key(const FileOrder& order) {
  return short_key(order.expected_sha256.empty() ? "url " + order.url : "sha256 " + order.expected_sha256);
}

FileFetch::FileFetch(FileOrder order, Fetcher& fetcher, BlobStore& store, Progress& progress, const FetchLimits& limits,
                     const std::atomic<bool>& cancelled)
    : order_(std::move(order)),
      fetcher_(fetcher),
      store_(store),
      progress_(progress),
      limits_(limits),
      cancelled_(cancelled),
      key_(part_key(order_)) {}

FileFetch::~FileFetch() {
  if (settler_)
    for (Lane& lane : lanes_) settler_->hand_over(lane.open);
  lanes_.clear();
  const bool empty = part_ && !all_there_ && (!settler_ || settler_->have_bytes() == 0);
  settler_.reset();  // writes down what is there
  if (empty) store_.drop_part(key_);
  if (holds_key_) {
    store_.release(key_);
    store_.release_key(key_);
  }
}

/// Another pull may be fetching the same file for itself.
base::Status FileFetch::wait_for_key() {
  while (!store_.take_key(key_)) {
    if (cancelled_) return Error{ErrorKind::unavailable, "stopped"};
    fetcher_.step(kStep);
  }
  holds_key_ = true;
  return {};
}

base::Result<PulledFile> FileFetch::run() {
  THAW_RETURN_IF_ERROR(wait_for_key());
  if (std::uint64_t bytes = 0; !order_.expected_sha256.empty() && store_.has_blob(order_.expected_sha256, &bytes)) {
    count_total(bytes);
    progress_.done_bytes += bytes;
    return PulledFile{order_.name, bytes, order_.expected_sha256};
  }
  THAW_RETURN_IF_ERROR(open_part());
  lanes_.resize(std::max<std::size_t>(1, limits_.connections));
  while (!complete()) {
    if (cancelled_) return Error{ErrorKind::unavailable, "stopped"};
    if (failure_) return failure_->within(order_.label);
    THAW_RETURN_IF_ERROR(settler_->status());
    if (changed_) THAW_RETURN_IF_ERROR(begin_again(stream_only_));
    order_lanes();
    fetcher_.step(kStep);
    const base::TimePoint time = now();
    for (Lane& lane : lanes_) {
      if (lane.open != nullptr) settler_->hand_over_old(lane.open, time);
      if (!lane.ended) continue;
      lane.ended = false;
      lane.transfer.reset();
    }
  }
  lanes_.clear();
  return check_and_keep();
}

base::Status FileFetch::open_part() {
  auto part = PartFile::open(store_.part_path(key_), order_.expected_bytes.value_or(0));
  if (!part.ok()) return part.error();
  part_.emplace(*std::move(part));
  THAW_RETURN_IF_ERROR(resume_from_journal());
  if (settler_) {
    count_total(*total_bytes_);
    return know_total(*total_bytes_);
  }
  return begin_again(false);
}

base::Status FileFetch::settle(Journal journal, bool resumable) {
  settler_.reset();  // it has the same file
  THAW_ASSIGN_OR_RETURN(settler_, Settler::make(*part_, store_, key_, std::move(journal), {limits_.blocks, limits_.connections, resumable}));
  return {};
}

base::Status FileFetch::resume_from_journal() {
  const auto text = read_small_file(store_.journal_path(key_));
  if (!text.ok()) return {};
  auto journal = parse_journal(*text);
  struct stat status {};
  const bool fits = journal.ok() && journal->source == order_.label && ::fstat(part_->fd(), &status) == 0 &&
                    static_cast<std::uint64_t>(status.st_size) == journal->total_bytes &&
                    (!order_.expected_bytes || *order_.expected_bytes == journal->total_bytes) &&
                    // Without a digest to expect, only the server can say that it is still the same file.
                    (!journal->etag.empty() || !order_.expected_sha256.empty());
  if (!fits) return {};
  total_bytes_ = journal->total_bytes;
  etag_ = journal->etag;
  THAW_RETURN_IF_ERROR(settle(*std::move(journal), true));
  const RangeSet have = settler_->have();
  plan_.emplace(*total_bytes_, have, limits_.connections);
  counted_done_ = have.bytes();
  progress_.done_bytes += counted_done_;
  return {};
}

/// From nothing: at first, and when the file turned out to be another one.
base::Status FileFetch::begin_again(bool stream_only) {
  for (Lane& lane : lanes_) lane = Lane{};
  settler_.reset();
  ::unlink(store_.journal_path(key_).c_str());
  if (::ftruncate(part_->fd(), 0) != 0) return part_error(store_.part_path(key_), 0, errno);
  progress_.done_bytes -= counted_done_;
  counted_done_ = 0;
  count_total(0);
  changed_ = false;
  stream_only_ = stream_only;
  mode_ = Mode::unknown;
  etag_.clear();
  plan_.reset();
  total_bytes_.reset();
  total_settled_ = false;
  stream_ended_ = false;
  stream_end_ = 0;
  if (order_.expected_bytes) THAW_RETURN_IF_ERROR(know_total(*order_.expected_bytes));
  return settle(Journal{order_.label, 0, "", {}}, false);
}

/// Finds room for it, once.
base::Status FileFetch::know_total(std::uint64_t bytes) {
  if (total_settled_) return {};
  const std::string path = store_.part_path(key_);
  if (bytes > kMaxFile) return Error{ErrorKind::invalid, fmt::format("{} is said to have {} bytes", order_.label, bytes)};
  struct stat status {};
  if (::fstat(part_->fd(), &status) != 0) return base::errno_error("cannot look at " + path, errno);
  const std::uint64_t allocated = static_cast<std::uint64_t>(status.st_blocks) * 512;
  if (const base::Status room = store_.reserve(key_, bytes - std::min(bytes, allocated)); !room.ok())
    return room.error().within("no room for " + order_.label);
  if (bytes > 0) {
    int result = 0;
    do {
      result = ::fallocate(part_->fd(), 0, 0, static_cast<off_t>(bytes));
    } while (result != 0 && errno == EINTR);
    if (result != 0 && errno != EOPNOTSUPP) {
      const int number = errno;
      // Nothing is kept of what could not be given in full.
      if (!settler_ || settler_->have_bytes() == 0) (void)::ftruncate(part_->fd(), 0);
      return part_error(path, bytes, number);
    }
    if (result != 0 && ::ftruncate(part_->fd(), static_cast<off_t>(bytes)) != 0) return part_error(path, bytes, errno);
  }
  store_.release(key_);  // the part has it now
  total_bytes_ = bytes;
  total_settled_ = true;
  if (!plan_) plan_.emplace(bytes, RangeSet(), limits_.connections);
  return {};
}

/// What a hub said is counted already.
void FileFetch::count_total(std::uint64_t bytes) {
  if (order_.expected_bytes) return;
  progress_.total_bytes += bytes - counted_total_;
  counted_total_ = bytes;
}

bool FileFetch::complete() const {
  if (failure_ || changed_) return false;
  if (mode_ == Mode::stream) return stream_ended_;
  return total_settled_ && settler_ && settler_->have_bytes() == *total_bytes_;
}

std::size_t FileFetch::busy_lanes() const {
  return static_cast<std::size_t>(std::count_if(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return lane.transfer && !lane.ended; }));
}

void FileFetch::order_lanes() {
  const base::TimePoint time = now();
  for (Lane& lane : lanes_) {
    if (failure_ || changed_) return;
    if (mode_ != Mode::ranges && &lane != &lanes_.front()) return;
    if (lane.transfer || lane.retired || lane.retry_at > time) continue;
    order(lane);
  }
}

void FileFetch::order(Lane& lane) {
  if (stream_only_ || mode_ == Mode::stream) {
    if (stream_ended_) return;
    lane.range.reset();
  } else if (!lane.range) {
    lane.range = plan_ ? plan_->claim(lane.piece_bytes) : Range{0, kFirstAsk};
    if (!lane.range) return;
  }
  lane.at = lane.range ? lane.range->begin : 0;
  lane.brought = 0;
  lane.asked_at = now();
  lane.asked_to_wait.reset();
  Order order{order_.url, order_.bearer, lane.range, etag_};
  lane.transfer = fetcher_.begin(std::move(order), {[this, &lane](const Answer& answer) { return on_head(lane, answer); },
                                                    [this, &lane](std::string_view bytes) { return on_body(lane, bytes); },
                                                    [this, &lane](std::optional<Trouble> trouble) { on_end(lane, std::move(trouble)); }});
}

bool FileFetch::fail(Error error) {
  if (!failure_) failure_ = std::move(error);
  return false;
}

/// What is there belongs to another file than what the server has now.
bool FileFetch::changed() {
  if (++changes_ > limits_.changes)
    return fail(
        {ErrorKind::conflict, "it changes again and again while it is fetched, or the server contradicts itself; try later, or another server"});
  changed_ = true;
  return false;
}

bool FileFetch::on_head(Lane& lane, const Answer& answer) {
  if (failure_ || changed_) return false;
  if (answer.status == 206 && lane.range) return on_partial(lane, answer);
  if (answer.status == 200) return on_whole(lane, answer);
  return on_refusal(lane, answer);
}

bool FileFetch::on_partial(Lane& lane, const Answer& answer) {
  const auto content = parse_content_range(answer.content_range);
  if (!content || content->range.begin != lane.range->begin || content->range.end > lane.range->end)
    return fail({ErrorKind::invalid, fmt::format("the server was asked for bytes {} to {} and answers \"Content-Range: {}\"; it must be mended",
                                                 lane.range->begin, lane.range->end - 1, answer.content_range)});
  if (order_.expected_bytes && content->total_bytes != *order_.expected_bytes)
    return fail({ErrorKind::conflict, fmt::format("it should have {} bytes, and the server has a file of {}; another revision may be right",
                                                  *order_.expected_bytes, content->total_bytes)});
  if (total_settled_ && content->total_bytes != *total_bytes_) return changed();
  if (!etag_.empty() && !answer.etag.empty() && etag_ != answer.etag) return changed();
  if (content->range.end != std::min(lane.range->end, content->total_bytes)) {
    if (plan_) plan_->give_back({content->range.end, lane.range->end});  // it gives less at a time
  }
  lane.range->end = content->range.end;
  lane.answered_at = now();
  shortest_wait_ = std::min(shortest_wait_, lane.answered_at - lane.asked_at);
  if (mode_ == Mode::ranges) return true;
  mode_ = Mode::ranges;
  const bool first_seen = !total_settled_;
  if (const base::Status room = know_total(content->total_bytes); !room.ok()) return fail(room.error());
  if (first_seen) {
    RangeSet claimed;
    claimed.add(*lane.range);
    plan_.emplace(content->total_bytes, claimed, limits_.connections);
  }
  etag_ = etag_.empty() ? answer.etag : etag_;
  if (settler_->have_bytes() == 0) {
    const bool resumable = !etag_.empty() || !order_.expected_sha256.empty();
    if (const base::Status ready = settle(Journal{order_.label, content->total_bytes, etag_, {}}, resumable); !ready.ok()) return fail(ready.error());
  }
  count_total(content->total_bytes);
  return true;
}

/// The server takes no ranges, or it is not the file any more that there are parts of.
bool FileFetch::on_whole(Lane& lane, const Answer& answer) {
  if (mode_ == Mode::ranges || settler_->have_bytes() > 0) {
    stream_only_ = mode_ == Mode::ranges && changes_ > 0;
    return changed();
  }
  if (order_.expected_bytes && answer.content_length && *answer.content_length != *order_.expected_bytes)
    return fail({ErrorKind::conflict, fmt::format("it should have {} bytes, and the server has {}; another revision may be right",
                                                  *order_.expected_bytes, *answer.content_length)});
  mode_ = Mode::stream;
  lane.range.reset();
  lane.at = 0;
  if (answer.content_length) {
    if (const base::Status room = know_total(*answer.content_length); !room.ok()) return fail(room.error());
    count_total(*answer.content_length);
  }
  return true;
}

bool FileFetch::on_refusal(Lane& lane, const Answer& answer) {
  const std::string said = answer.error_message.empty() ? "" : ": " + answer.error_message;
  switch (answer.status) {
    case 401:
    case 403:
      return fail(
          {ErrorKind::denied,
           fmt::format(
               "the server refuses it (HTTP {}{}); if it needs a token, set HF_TOKEN in the environment of `thaw serve`, and if its owner asks for "
               "consent, give it on the model's page",
               answer.status, said)});
    case 404:
    case 410:
      return fail({ErrorKind::not_found, fmt::format("the server has no such file (HTTP {}{})", answer.status, said)});
    case 416:
      if (settler_->have_bytes() > 0 || mode_ == Mode::ranges) return changed();
      stream_only_ = true;  // an empty file, or a server that takes ranges for something else
      return changed();
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      lane.asked_to_wait = answer.retry_after.value_or(base::Duration::zero());
      try_again(lane, {ErrorKind::unavailable, fmt::format("the server is busy (HTTP {}{})", answer.status, said)});
      return false;
    default:
      return fail({ErrorKind::invalid, fmt::format("the server answers with HTTP {}{}", answer.status, said)});
  }
}

bool FileFetch::on_body(Lane& lane, std::string_view bytes) {
  if (failure_ || changed_) return false;
  const std::uint64_t end = lane.at + bytes.size();
  if (lane.range && end > lane.range->end) return fail({ErrorKind::invalid, "the server sends more than it was asked for; it must be mended"});
  if (mode_ == Mode::stream && total_settled_ && end > *total_bytes_)
    return fail({ErrorKind::conflict, "the server sends more than it said the file has"});
  if (mode_ == Mode::stream && !total_settled_ && end / kFirstAsk != lane.at / kFirstAsk) {
    // Of unknown length: room is found as it grows.
    if (const base::Status room = store_.reserve(key_, kFirstAsk); !room.ok()) return fail(room.error());
  }
  const std::uint64_t last = lane.range ? lane.range->end : total_settled_ ? *total_bytes_ : UINT64_MAX;
  if (const base::Status taken = settler_->take(lane.open, lane.at, bytes, last); !taken.ok()) return fail(taken.error());
  lane.at = end;
  lane.brought += bytes.size();
  counted_done_ += bytes.size();
  progress_.done_bytes += bytes.size();
  progress_.fetched_bytes += bytes.size();
  return true;
}

void FileFetch::try_again(Lane& lane, const Error& why) {
  if (lane.brought >= kWorthIt && mode_ != Mode::stream) lane.attempts = 0;
  const bool wants_fewer = lane.asked_to_wait && mode_ == Mode::ranges && busy_lanes() > 1;
  if (wants_fewer) {
    lane.retired = true;
    return;
  }
  if (++lane.attempts > limits_.backoff.tries) {
    fail({why.kind, fmt::format("{}, after {} tries; {}", why.message, lane.attempts,
                                mode_ == Mode::stream ? "the server takes no ranges, so that it begins anew when it is pulled again"
                                                      : "what has come is kept, and pulling it again goes on from there")});
    return;
  }
  const base::Duration asked = lane.asked_to_wait.value_or(base::Duration::zero());
  if (asked > limits_.longest_retry_after) {
    fail({why.kind, fmt::format("{} and asks to be left alone for {}; pull it again then", why.message, base::format_duration(asked))});
    return;
  }
  lane.retry_at = now() + std::max(asked, wait_before(limits_.backoff, lane.attempts));
}

void FileFetch::on_end(Lane& lane, std::optional<Trouble> trouble) {
  lane.ended = true;
  if (lane.open != nullptr) settler_->hand_over(lane.open);
  const std::optional<Range> claimed = std::exchange(lane.range, std::nullopt);
  if (failure_ || changed_) return;
  const bool refused = lane.asked_to_wait.has_value();
  if (mode_ == Mode::stream) {
    if (!trouble && (!total_settled_ || lane.at == *total_bytes_)) {
      stream_ended_ = true;
      stream_end_ = lane.at;
      return;
    }
    if (trouble && !trouble->passing) {
      fail(trouble->error);
      return;
    }
    try_again(lane, trouble ? trouble->error : Error{ErrorKind::unavailable, fmt::format("the file was cut after {} bytes", lane.at)});
    if (!failure_) restart_stream();
    return;
  }
  if (claimed && lane.at < claimed->end && plan_) plan_->give_back({std::max(lane.at, claimed->begin), claimed->end});
  if (refused) return;  // it waits already
  if (trouble && !trouble->passing) {
    fail(trouble->error);
    return;
  }
  if (!trouble && claimed && lane.at == claimed->end) {
    lane.attempts = 0;
    measure(lane);
    return;
  }
  try_again(lane, trouble ? trouble->error : Error{ErrorKind::unavailable, "the connection ended early"});
}

/// How much is worth asking for at its rate.
void FileFetch::measure(Lane& lane) {
  const double took_s = base::to_s(now() - lane.answered_at);
  if (took_s > 0) lane.piece_bytes = RangePlan::worth_asking_for(shortest_wait_, static_cast<double>(lane.brought) / took_s);
}

/// Without ranges nothing of it can be asked for again but all.
void FileFetch::restart_stream() {
  settler_.reset();
  progress_.done_bytes -= counted_done_;
  counted_done_ = 0;
  if (const base::Status ready = settle(Journal{order_.label, 0, "", {}}, false); !ready.ok()) fail(ready.error());
  mode_ = Mode::unknown;
  count_total(0);
  if (!order_.expected_bytes) {
    total_settled_ = false;
    total_bytes_.reset();
    plan_.reset();
  } else {
    plan_.emplace(*order_.expected_bytes, RangeSet(), limits_.connections);
  }
}

base::Status FileFetch::check(const std::string& sha256) {
  if (!order_.expected_sha256.empty() && sha256 != order_.expected_sha256)
    return Error{ErrorKind::conflict,
                 fmt::format("{} has SHA-256 {}, and {} was expected: it was changed on its way or at its source; nothing of it is kept",
                             order_.label, sha256, order_.expected_sha256)};
  if (!order_.expected_git_blob.empty()) {
    THAW_ASSIGN_OR_RETURN(const std::string blob, git_blob_of(part_->fd()));
    if (blob != order_.expected_git_blob)
      return Error{ErrorKind::conflict,
                   fmt::format("{} is git blob {}, and {} was expected: it was changed on its way or at its source; nothing of it is kept",
                               order_.label, blob, order_.expected_git_blob)};
  }
  return {};
}

base::Result<PulledFile> FileFetch::check_and_keep() {
  all_there_ = true;
  const std::uint64_t bytes = mode_ == Mode::stream ? stream_end_ : *total_bytes_;
  count_total(bytes);
  if (order_.expected_bytes && bytes != *order_.expected_bytes)
    return Error{ErrorKind::conflict,
                 fmt::format("{} has {} bytes, and {} were expected; nothing of it is kept", order_.label, bytes, *order_.expected_bytes)};
  if (::ftruncate(part_->fd(), static_cast<off_t>(bytes)) != 0) return part_error(store_.part_path(key_), bytes, errno);
  const auto sha256 = settler_->finish(bytes);
  settler_.reset();
  if (!sha256.ok()) return sha256.error();
  if (const base::Status right = check(*sha256); !right.ok()) {
    store_.drop_part(key_);
    return right.error();
  }
  THAW_RETURN_IF_ERROR(store_.keep_part(key_, *sha256));
  return PulledFile{order_.name, bytes, *sha256};
}

}  // namespace thaw::node::pull
