#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/garbage.h"
#include "spec/model_spec.h"

namespace thaw::node::pull {

/// One file of what was pulled.
struct PulledFile {
  std::string name;  ///< without folders
  std::uint64_t bytes = 0;
  std::string sha256;
  bool operator==(const PulledFile&) const = default;
};

/// What a source led to: a directory of its own with the source's files under their own names.
struct PulledSet {
  std::string source;             ///< source_text() of it
  std::string revision;           ///< of a hub: the commit; empty else
  std::string main;               ///< file name that the engine is given; empty: the directory
  std::vector<PulledFile> files;  ///< in the order of their names
  std::int64_t pulled_unix_ms = 0;
  [[nodiscard]] std::uint64_t bytes() const;
  /// Name of its directory: from the digests and names of its files, so that the same content is there once.
  [[nodiscard]] std::string key() const;
};

/// What a source is known by. The same repository is another thing to engines that read directories.
std::string source_text(const spec::Source& source, bool directory_wanted);

/// The disk that pulled weights lie on. Content-addressed: a blob's name is its digest, and it gets that name only when all of
/// it is on the disk and was checked. What engines see are hard links to blobs, under the names they expect.
///
///     <directory>/tmp/<key>.part, .json    a file on its way, and what of it is durable (node/pull/journal.h)
///     <directory>/blobs/sha256/<digest>    whole files
///     <directory>/sets/<key>/<name>        a model's files: links to blobs
///     <directory>/sources/<key>.json       which set a source led to
///
/// Thread-safe. Blocks for the disk.
class BlobStore {
 public:
  /// `budget_bytes`: that all of it may take; absent: what the disk has.
  BlobStore(std::string directory, std::optional<std::uint64_t> budget_bytes) : directory_(std::move(directory)), budget_bytes_(budget_bytes) {}

  base::Status open();

  /// The set that this source led to, if all of its files are still there.
  [[nodiscard]] std::optional<PulledSet> find(const spec::Source& source, bool directory_wanted) const;
  /// Where the engine finds it: the main file, or the directory.
  [[nodiscard]] std::string path_of(const PulledSet& set) const;
  [[nodiscard]] std::vector<PulledSet> sets() const;  ///< by source

  [[nodiscard]] bool has_blob(const std::string& sha256, std::uint64_t* bytes = nullptr) const;
  [[nodiscard]] std::string part_path(const std::string& key) const { return directory_ + "/tmp/" + key + ".part"; }
  [[nodiscard]] std::string journal_path(const std::string& key) const { return directory_ + "/tmp/" + key + ".json"; }
  /// That the disk has given a part; 0 when there is none.
  [[nodiscard]] std::uint64_t part_bytes(const std::string& key) const;
  /// Replaces it whole; durable on return.
  base::Status put_journal(const std::string& key, std::string_view text);
  void drop_part(const std::string& key);

  /// A part that is complete, checked and durable gets its name; the part is gone then.
  base::Status keep_part(const std::string& key, const std::string& sha256);
  /// All blobs of it are there. Makes directory and entry, durable on return.
  base::Status keep_set(const PulledSet& set);

  /// Room for what a pull is going to write, until it is released. Errors: exhausted, with how much gc would free, when it does not fit the budget or
  /// the disk.
  base::Status reserve(const std::string& holder, std::uint64_t bytes);
  void release(const std::string& holder);

  /// A part is one pull's at a time: false while it is another's.
  bool take_key(const std::string& key);
  void release_key(const std::string& key);

  /// gc leaves these alone: parts that are taken, and what is held: digests of blobs and sources that a pull under way needs.
  void hold(const std::string& name);
  void let_go(const std::string& name);

  struct Usage {
    std::uint64_t blob_bytes = 0, part_bytes = 0, reserved_bytes = 0, free_bytes = 0;
    std::optional<std::uint64_t> budget_bytes;
  };
  [[nodiscard]] Usage usage() const;

  /// What nobody needs: sets that are not at one of `used_paths` (as path_of() gives them), blobs of no set, parts of no pull.
  base::Result<std::vector<Garbage>> collect(const std::set<std::string>& used_paths, bool dry_run);

 private:
  [[nodiscard]] std::string blob_path(const std::string& sha256) const { return directory_ + "/blobs/sha256/" + sha256; }
  [[nodiscard]] std::string set_path(const std::string& key) const { return directory_ + "/sets/" + key; }
  [[nodiscard]] std::string entry_path(const std::string& source) const;
  [[nodiscard]] bool is_whole(const PulledSet& set) const;
  [[nodiscard]] Usage look() const;

  std::string directory_;
  std::optional<std::uint64_t> budget_bytes_;
  mutable std::mutex mutex_;  ///< guards the three below, and gc against what is being kept
  std::map<std::string, std::uint64_t> reserved_;
  std::multiset<std::string> held_;
  std::set<std::string> keys_;  ///< of parts that are being written
};

/// First 32 hex digits of the text's SHA-256: names files after what they are of.
std::string short_key(std::string_view text);

}  // namespace thaw::node::pull
