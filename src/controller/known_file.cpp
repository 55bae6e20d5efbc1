#include "controller/known_file.h"

#include <algorithm>

#include <fmt/format.h>

namespace thaw::controller {
namespace {

using store::StoredFile;
using Outcome = FileVerdict::Outcome;

StoredFile stored(const wire::FileStamp& stamp) {
  StoredFile file;
  file.path = stamp.path;
  file.bytes = stamp.bytes;
  file.mtime_ns = stamp.mtime_ns;
  file.inode = stamp.inode;
  return file;
}

/// The file as it was, under the stamp that it has now.
void restamp(StoredFile& file, const wire::FileStamp& stamp) {
  file.bytes = stamp.bytes;
  file.mtime_ns = stamp.mtime_ns;
  file.inode = stamp.inode;
}

void note_digest(StoredFile& file, const std::string& sha256, std::int64_t now_unix_ms) {
  file.sha256 = sha256;
  file.verified_unix_ms = now_unix_ms;
}

}  // namespace

wire::FileStamp stamp_of(const StoredFile& file) {
  return {file.path, file.bytes, file.mtime_ns, file.inode};
}

std::vector<KnownFile> files_as_deployed(const std::vector<KnownFile>& before, const std::vector<wire::FileStamp>& files) {
  std::vector<KnownFile> after;
  for (const wire::FileStamp& stamp : files) {
    KnownFile file{stored(stamp), std::nullopt, false};
    for (const KnownFile& old : before) {
      if (stamp_of(old.current()) != stamp) continue;
      file.deployed = old.current();
      file.deployed.changed_unix_ms = 0;
    }
    after.push_back(std::move(file));
  }
  return after;
}

std::string see_file(KnownFile& file, const wire::FileStamp& stamp, std::int64_t now_unix_ms) {
  file.gone = false;
  if (stamp == stamp_of(file.current())) return {};
  std::string difference = wire::describe_change(stamp_of(file.current()), stamp);
  file.changed.reset();
  if (stamp == stamp_of(file.deployed)) return difference;  // somebody put the old one back
  file.changed = stored(stamp);
  file.changed->changed_unix_ms = now_unix_ms;
  return difference;
}

bool take_digest(KnownFile& file, const wire::FileHashed& answer, std::int64_t now_unix_ms) {
  if (answer.file != stamp_of(file.current())) return false;
  note_digest(file.current(), answer.sha256, now_unix_ms);
  if (file.changed && file.changed->sha256 == file.deployed.sha256) {
    restamp(file.deployed, answer.file);
    note_digest(file.deployed, answer.sha256, now_unix_ms);
    file.changed.reset();
  }
  return true;
}

const char* to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::intact: return "intact";
    case Outcome::recorded: return "recorded";
    case Outcome::changed: return "changed";
    case Outcome::damaged: return "damaged";
    case Outcome::unreadable: return "unreadable";
  }
  return "unreadable";
}

FileVerdict judge_file(KnownFile& file, const wire::FileHashed& answer, std::int64_t now_unix_ms) {
  FileVerdict verdict{file.deployed.path, Outcome::intact, answer.file.bytes, answer.sha256, file.deployed.sha256, ""};
  if (answer.sha256.empty()) {
    verdict.outcome = Outcome::unreadable;
    verdict.detail = answer.error;
    return verdict;
  }
  file.gone = false;
  const std::string difference = wire::describe_change(stamp_of(file.deployed), answer.file);
  const bool same_bytes = answer.sha256 == file.deployed.sha256;
  if (same_bytes || (file.deployed.sha256.empty() && difference.empty())) {
    if (!same_bytes) verdict.outcome = Outcome::recorded;
    restamp(file.deployed, answer.file);
    note_digest(file.deployed, answer.sha256, now_unix_ms);
    file.changed.reset();
    return verdict;
  }
  verdict.outcome = difference.empty() ? Outcome::damaged : Outcome::changed;
  verdict.detail = difference.empty() ? "its bytes changed, but neither its size nor its time: a disk or memory lost some, or "
                                        "somebody hides that they wrote to it"
                                      : "since the model was deployed " + difference;
  const bool known = file.changed && stamp_of(*file.changed) == answer.file;
  const std::int64_t since = known ? file.changed->changed_unix_ms : now_unix_ms;
  file.changed = stored(answer.file);
  file.changed->changed_unix_ms = since;
  note_digest(*file.changed, answer.sha256, now_unix_ms);
  return verdict;
}

}  // namespace thaw::controller
