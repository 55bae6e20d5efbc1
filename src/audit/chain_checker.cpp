#include "audit/chain_checker.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "audit/line_reader.h"

namespace thaw::audit {
namespace {

std::string range(std::uint64_t first, std::uint64_t last) {
  return first == last ? fmt::format("record {}", first) : fmt::format("records {} to {}", first, last);
}

}  // namespace

void Report::add(Finding finding) {
  ++findings_total;
  if (findings.size() < kMaxFindings) findings.push_back(std::move(finding));
}

void ChainChecker::expect(const Head& head, std::string file, std::uint64_t line) {
  expected_.emplace(head.seq, Expected{head, std::move(file), line});
}

void ChainChecker::begin_file(std::string name) {
  file_ = std::move(name);
  ++report_.files;
}

void ChainChecker::line(std::string_view text, std::uint64_t number, bool complete, bool last_file) {
  const auto record = decode(text);
  if (!complete) {
    // Nothing is lost by it: what was answered has its newline on the disk.
    if (last_file)
      report_.incomplete_end = true;
    else
      find("torn", number, next_seq_, "the file ends inside a line, but the log goes on in another file");
    return;
  }
  if (!record.ok()) {
    find("altered", number, next_seq_, record.error().message);
    last_hash_.clear();
    if (next_seq_ != 0) ++next_seq_;  // it stands in some record's place
    return;
  }
  place(*record, number);
}

void ChainChecker::place(const Record& record, std::uint64_t number) {
  ++report_.records;
  const std::uint64_t seq = record.seq;
  const bool first = !first_;
  if (first) first_ = record;
  if (next_seq_ != 0 && seq < next_seq_) {
    const auto gap =
        std::find_if(gaps_.begin(), gaps_.end(), [seq](const Gap& g) { return g.first <= seq && seq <= g.last; });
    if (gap != gaps_.end())
      find("reordered", number, seq, fmt::format("record {} stands behind record {}", seq, next_seq_ - 1));
    else
      find("repeated", number, seq,
           fmt::format("record {} stands behind record {}, and stood before", seq, next_seq_ - 1));
    last_hash_.clear();
    compare_heads(record);
    return;
  }
  if (next_seq_ != 0 && seq > next_seq_) {
    find("gap", number, next_seq_,
         fmt::format("{} not in front of record {}: removed, or moved",
                     range(next_seq_, seq - 1) + (seq - 1 == next_seq_ ? " is" : " are"), seq));
    if (gaps_.size() < Report::kMaxFindings) gaps_.push_back({next_seq_, seq - 1});
  } else if (!first && !last_hash_.empty() && record.prev != last_hash_) {
    find("altered", number, seq,
         fmt::format("record {} does not continue record {}: one of them was put in the place of another", seq,
                     seq - 1));
  }
  next_seq_ = seq + 1;
  last_hash_ = record.hash;
  report_.last_seq = seq;
  report_.last_unix_ms = record.unix_ms;
  note_expiry(record);
  compare_heads(record);
}

void ChainChecker::note_expiry(const Record& record) {
  if (record.event != Event::note || record.action != "log.expire") return;
  LineReader in(record.detail);  // "SEQ HASH"
  std::uint64_t seq = 0;
  if (in.number(seq) && in.skip(" ")) expired_[seq] = record.detail.substr(record.detail.find(' ') + 1);
}

void ChainChecker::compare_heads(const Record& record) {
  const auto [begin, end] = expected_.equal_range(record.seq);
  for (auto it = begin; it != end; ++it) {
    const Expected& e = it->second;
    if (e.head.hash == record.hash)
      ++report_.heads_matched;
    else
      report_.add({"anchor", e.file, e.line, record.seq,
                   fmt::format("record {} is not the one that was signed on {}: the log was written anew", record.seq,
                               format_time(e.head.unix_ms))});
  }
  expected_.erase(begin, end);
}

Report ChainChecker::finish() {
  if (first_) {
    report_.first_seq = first_->seq;
    report_.first_unix_ms = first_->unix_ms;
    if (first_->seq > 1) {
      const auto known = expired_.find(first_->seq - 1);
      if (known != expired_.end() && known->second == first_->prev)
        report_.expired_through_seq = first_->seq - 1;
      else
        report_.add(
            {"gap",
             {},
             0,
             1,
             fmt::format("{} missing at the beginning, and the log does not say that the retention removed them",
                         range(1, first_->seq - 1) + (first_->seq == 2 ? " is" : " are"))});
    } else if (first_->prev != first_prev()) {
      report_.add({"altered", {}, 0, 1, "record 1 says that it continues another one"});
    }
  }
  if (!first_ && expected_.empty())
    report_.add({"truncated", {}, 0, 1, "there is no record at all: the log's files were removed"});
  const Expected* furthest = nullptr;
  for (const auto& [seq, e] : expected_) {
    if (seq > report_.last_seq) {
      if (furthest == nullptr || seq > furthest->head.seq) furthest = &e;
    } else if (seq <= report_.expired_through_seq) {
      ++report_.heads_expired;
      const auto known = expired_.find(seq);
      if (known != expired_.end() && known->second != e.head.hash)
        report_.add({"anchor", e.file, e.line, seq,
                     fmt::format("record {}, which was removed, is not the one that was signed on {}", seq,
                                 format_time(e.head.unix_ms))});
    } else {
      report_.add(
          {"gap", e.file, e.line, seq,
           fmt::format("record {}, which was signed on {}, is not in the log", seq, format_time(e.head.unix_ms))});
    }
  }
  if (furthest != nullptr)
    report_.add({"truncated", furthest->file, furthest->line, report_.last_seq + 1,
                 fmt::format("the log ends with record {}, but record {} was signed on {}: {} cut off",
                             report_.last_seq, furthest->head.seq, format_time(furthest->head.unix_ms),
                             range(report_.last_seq + 1, furthest->head.seq) +
                                 (furthest->head.seq == report_.last_seq + 1 ? " was" : " were"))});
  return std::move(report_);
}

}  // namespace thaw::audit
