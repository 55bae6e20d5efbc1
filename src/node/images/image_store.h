#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "node/images/manifest.h"

/// The problem: an image takes seconds to make and is megabytes to gigabytes of a process's memory, and the machine may
/// lose power, or the disk fill up, at any byte of it. What is found afterwards must be a whole image or none.
///
///     images/.new-<id>/    being made: files, then manifest.json and its digest; everything fsynced
///        │ rename, fsync of images/
///     images/<id>/         whole; never changed again, but for the time of its last use
///        │ rename
///     images/.old-<id>/    being removed
///
/// What begins with a dot is removed at the next open. A manifest holds sizes and SHA-256 of all files, so an image
/// that was damaged later is found too.
namespace thaw::node {

/// Removes what was made so far unless it was committed.
class ImageDraft {
 public:
  ~ImageDraft();
  ImageDraft(const ImageDraft&) = delete;
  ImageDraft& operator=(const ImageDraft&) = delete;

  /// Empty when handed out; files only, no directories.
  [[nodiscard]] const std::string& directory() const { return directory_; }

 private:
  friend class ImageStore;
  ImageDraft() = default;
  std::string directory_;
  std::uint64_t reserved_bytes_ = 0;
  std::function<void()> released_;
};

/// Any thread. One store a directory.
class ImageStore {
 public:
  struct Settings {
    std::string directory;           ///< <data_dir>/images; made if absent, mode 0700: images are memory of engines
    std::uint64_t budget_bytes = 0;  ///< all images together, drafts at what was reserved for them
    std::uint64_t left_free_bytes = 256ULL << 20;  ///< of the file system: others, and the database, write there too
  };
  /// An image that was given up by the store itself.
  struct Dropped {
    base::ImageId image;
    std::uint64_t freed_bytes = 0;
    std::string reason;  ///< for people
  };

  /// Removes what an earlier life left half made, and images whose manifest or file sizes do not fit: `dropped` says
  /// which. Reads no file's contents. Fails with io when the directory cannot be used.
  static base::Result<std::unique_ptr<ImageStore>> open(Settings settings, std::vector<Dropped>& dropped);

  [[nodiscard]] std::vector<Manifest> list() const;  ///< whole ones, by id
  [[nodiscard]] std::uint64_t used_bytes() const;    ///< with reservations
  [[nodiscard]] std::uint64_t budget_bytes() const { return settings_.budget_bytes; }

  /// Begins an image of at most `max_bytes`. Where budget or disk are too full, the images that save the least time for
  /// their bytes go first (`dropped`). Fails with conflict when the id is taken, exhausted when there is no room even
  /// so.
  base::Result<std::unique_ptr<ImageDraft>> begin(const base::ImageId& image, std::uint64_t max_bytes,
                                                  std::vector<Dropped>& dropped);

  /// Measures, digests and syncs the draft's files, fills in manifest.files and makes it an image. On an error nothing
  /// of it is left.
  base::Result<Manifest> commit(std::unique_ptr<ImageDraft> draft, Manifest manifest);

  /// Before a use: everything that `now` has must be as it was, and the files whole. Digests are checked once in this
  /// store's life, and again when a file's size or time has changed since. Fails with not_found, or with conflict when
  /// the image is of no use any more: drop it then.
  base::Result<Manifest> check(const base::ImageId& image, const Origin& now);
  [[nodiscard]] std::string directory_of(const base::ImageId& image) const;
  /// For what is evicted first.
  void note_use(const base::ImageId& image, base::Duration restore_took);

  /// Bytes freed; 0 for one that is not there.
  base::Result<std::uint64_t> drop(const base::ImageId& image);

 private:
  struct Entry {
    Manifest manifest;
    std::map<std::string, FileIdentity> checked;  ///< files whose digest was right, as they were then
    std::int64_t last_used_unix_s = 0;
    base::Duration restore_took{};  ///< 0: never restored
  };
  explicit ImageStore(Settings settings) : settings_(std::move(settings)) {}

  base::Status load(std::vector<Dropped>& dropped);
  [[nodiscard]] base::Result<Entry> load_one(const std::string& directory, const std::string& name) const;
  base::Status make_room_locked(std::uint64_t bytes, std::vector<Dropped>& dropped);
  [[nodiscard]] std::uint64_t used_bytes_locked() const;
  [[nodiscard]] const Entry* least_valuable_locked() const;
  base::Result<std::uint64_t> drop_locked(const base::ImageId& image);
  [[nodiscard]] std::string draft_directory(const base::ImageId& image) const {
    return settings_.directory + "/.new-" + image.str();
  }

  Settings settings_;
  mutable std::mutex mutex_;
  std::map<base::ImageId, Entry> entries_;
  std::map<std::string, std::uint64_t> drafts_;  ///< reserved bytes, by id
};

}  // namespace thaw::node
