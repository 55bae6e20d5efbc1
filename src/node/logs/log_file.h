#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

/// The problem: an engine may write for ever, and its log must stay small, survive restarts, and be followed without losing a line.
/// So a log is two files, PATH and PATH.1, each at most half of the bound; when PATH is full it becomes PATH.1.
namespace thaw::node {

/// Appends to one bounded log. Not shared between threads without a lock of the caller's; several LogFiles (also of other processes) must not
/// write the same path. Readers need no lock. Never fails after open(): when the disk is full, text is dropped.
class LogFile {
 public:
  /// Opens or creates `path` (mode 0640) and its directory. max_bytes: over both files, at least 4 KiB.
  static base::Result<LogFile> open(const std::string& path, std::uint64_t max_bytes);

  LogFile(LogFile&& other) noexcept;
  LogFile& operator=(LogFile&& other) noexcept;
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;
  ~LogFile();

  /// Rotation happens between lines where it can: a text is cut only when it is larger than a file may be.
  void append(std::string_view text);

  /// The last `bytes` of the log at most, over both files, beginning at a line's start where one lies in reach.
  [[nodiscard]] std::string tail(std::size_t bytes) const;

 private:
  LogFile(std::string path, std::uint64_t half_bytes, int fd, std::uint64_t size_bytes);
  void write_whole(std::string_view text);
  void rotate();

  std::string path_;
  std::uint64_t half_bytes_ = 0;
  int fd_ = -1;
  std::uint64_t size_bytes_ = 0;
};

/// The last `bytes` of a log that somebody else writes; empty when there is none. See LogFile::tail.
std::string log_tail(const std::string& path, std::size_t bytes);

/// Reads a log as it grows, across rotations. A reader that falls behind by more than the whole bound loses what was deleted, and is told so in
/// the text. Poll-style: the caller decides when to look. Not thread-safe.
class LogFollower {
 public:
  /// Starts `tail_bytes` before the end (at a line's start), or at the beginning of what is kept if that is less.
  /// The log need not exist yet.
  LogFollower(std::string path, std::size_t tail_bytes);
  LogFollower(LogFollower&& other) noexcept;
  LogFollower& operator=(LogFollower&&) = delete;
  LogFollower(const LogFollower&) = delete;
  LogFollower& operator=(const LogFollower&) = delete;
  ~LogFollower();

  /// What was written since the last call, at most 256 KiB at a time; empty when there is nothing new.
  std::string read_more();

 private:
  void read_open_file(std::string& text);
  bool open_next();

  std::string path_;
  std::string pending_;   ///< the tail to begin with
  int fd_ = -1;           ///< the file being read: PATH, or what was PATH before a rotation
  ino_t inode_ = 0;
};

}  // namespace thaw::node
