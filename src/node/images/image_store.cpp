#include "node/images/image_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/units.h"
#include "node/images/digest.h"
#include "node/images/durable.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;

constexpr const char* kManifestName = "manifest.json";
constexpr const char* kDigestName = "manifest.sha256";  // as sha256sum writes it; `sha256sum -c` reads it
constexpr const char* kOldPrefix = ".old-";
constexpr std::uint64_t kManifestRoom_bytes = 1U << 20;  // above the files themselves
constexpr auto kAssumedRestore = base::Millis(500);      // of an image that was not restored yet

std::int64_t unix_s() {
  return static_cast<std::int64_t>(std::time(nullptr));
}

base::Error unusable(const std::string& why) {
  return {base::ErrorKind::conflict, why};
}

/// Ids become file names.
bool is_id(const std::string& id) {
  return !id.empty() && id.size() <= 96 && id.front() != '.' &&
         id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string::npos;
}

std::string digest_line(const std::string& manifest) {
  Sha256 digest;
  digest.add(manifest);
  return digest.finish() + "  " + kManifestName + "\n";
}

std::uint64_t free_bytes(const std::string& directory) {
  struct statvfs status {};
  return ::statvfs(directory.c_str(), &status) == 0 ? std::uint64_t{status.f_bavail} * status.f_frsize : 0;
}

std::uint64_t bytes_in(const std::string& directory) {
  std::uint64_t sum = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error))
    if (entry.is_regular_file(error)) sum += entry.file_size(error);
  return sum;
}

}  // namespace

ImageDraft::~ImageDraft() {
  if (!directory_.empty())
    if (auto removed = remove_tree(directory_); !removed.ok()) spdlog::warn("{}", removed.error().message);
  if (released_) released_();
}

base::Result<std::unique_ptr<ImageStore>> ImageStore::open(Settings settings, std::vector<Dropped>& dropped) {
  std::unique_ptr<ImageStore> store(new ImageStore(std::move(settings)));
  THAW_RETURN_IF_ERROR(make_directories(store->settings_.directory, 0700));
  THAW_RETURN_IF_ERROR(store->load(dropped));
  return store;
}

base::Status ImageStore::load(std::vector<Dropped>& dropped) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(settings_.directory, error)) names.push_back(entry.path().filename());
  if (error) return base::errno_error("cannot list " + settings_.directory, error.value());
  for (const std::string& name : names) {
    const std::string directory = settings_.directory + "/" + name;
    if (name.front() == '.') {
      THAW_RETURN_IF_ERROR(remove_tree(directory));
      continue;
    }
    auto entry = load_one(directory, name);
    if (entry.ok()) {
      entries_.emplace(entry->manifest.image, std::move(entry).value());
      continue;
    }
    dropped.push_back({base::ImageId(name), bytes_in(directory), entry.error().message});
    THAW_RETURN_IF_ERROR(remove_tree(directory));
  }
  return {};
}

base::Result<ImageStore::Entry> ImageStore::load_one(const std::string& directory, const std::string& name) const {
  THAW_ASSIGN_OR_RETURN(const std::string text, read_small_file(directory + "/" + kManifestName));
  THAW_ASSIGN_OR_RETURN(const std::string digest, read_small_file(directory + "/" + kDigestName));
  if (digest != digest_line(text)) return unusable("its manifest is damaged (SHA-256 differs)");
  Entry entry;
  THAW_ASSIGN_OR_RETURN(entry.manifest, parse_manifest(text));
  if (entry.manifest.image.str() != name) return unusable("its manifest is that of " + entry.manifest.image.str());
  for (const ImageFile& file : entry.manifest.files) {
    THAW_ASSIGN_OR_RETURN(const FileIdentity identity, identity_of(directory + "/" + file.name));
    if (identity.bytes != file.bytes)
      return unusable(fmt::format("{} has {} bytes and should have {}", file.name, identity.bytes, file.bytes));
  }
  struct stat info {};
  entry.last_used_unix_s = ::stat(directory.c_str(), &info) == 0 ? info.st_mtim.tv_sec : unix_s();
  return entry;
}

std::vector<Manifest> ImageStore::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<Manifest> all;
  for (const auto& [id, entry] : entries_) all.push_back(entry.manifest);
  return all;
}

std::uint64_t ImageStore::used_bytes() const {
  const std::lock_guard lock(mutex_);
  return used_bytes_locked();
}

std::uint64_t ImageStore::used_bytes_locked() const {
  std::uint64_t used = 0;
  for (const auto& [id, entry] : entries_) used += entry.manifest.bytes();
  for (const auto& [id, reserved] : drafts_) used += reserved;
  return used;
}

// --- making one

base::Result<std::unique_ptr<ImageDraft>> ImageStore::begin(const base::ImageId& image, std::uint64_t max_bytes,
                                                            std::vector<Dropped>& dropped) {
  if (!is_id(image.str())) return base::Error{base::ErrorKind::invalid, "\"" + image.str() + "\" is no image's id"};
  std::unique_ptr<ImageDraft> draft(new ImageDraft);
  const std::lock_guard lock(mutex_);
  if (entries_.contains(image) || drafts_.contains(image.str()))
    return base::Error{base::ErrorKind::conflict, "there is an image " + image.str() + " already"};
  THAW_RETURN_IF_ERROR(make_room_locked(max_bytes, dropped));
  THAW_RETURN_IF_ERROR(remove_tree(draft_directory(image)));
  THAW_RETURN_IF_ERROR(make_directories(draft_directory(image), 0700));
  drafts_.emplace(image.str(), max_bytes);
  draft->directory_ = draft_directory(image);
  draft->reserved_bytes_ = max_bytes;
  draft->released_ = [this, id = image.str()] {
    const std::lock_guard relock(mutex_);
    drafts_.erase(id);
  };
  return draft;
}

base::Status ImageStore::make_room_locked(std::uint64_t bytes, std::vector<Dropped>& dropped) {
  const std::uint64_t wanted = bytes + kManifestRoom_bytes;
  if (bytes > settings_.budget_bytes)
    return base::Error{base::ErrorKind::exhausted,
                       fmt::format("cannot make an image of up to {}: node.images.budget is {}",
                                   base::format_bytes(bytes), base::format_bytes(settings_.budget_bytes))};
  for (;;) {
    const bool in_budget = used_bytes_locked() + bytes <= settings_.budget_bytes;
    const bool on_disk = free_bytes(settings_.directory) >= wanted + settings_.left_free_bytes;
    if (in_budget && on_disk) return {};
    const Entry* least = least_valuable_locked();
    if (least == nullptr)
      return base::Error{
          base::ErrorKind::exhausted,
          fmt::format("cannot make an image of up to {}: {}", base::format_bytes(bytes),
                      in_budget ? fmt::format("{} are free in {}", base::format_bytes(free_bytes(settings_.directory)),
                                              settings_.directory)
                                : "others are being made")};
    const base::ImageId image = least->manifest.image;
    THAW_ASSIGN_OR_RETURN(const std::uint64_t freed, drop_locked(image));
    dropped.push_back({image, freed, in_budget ? "the disk is full" : "room for another within node.images.budget"});
  }
}

/// Seconds that a restore saves, by the time since the last one (as often as that it may be used again), by bytes.
const ImageStore::Entry* ImageStore::least_valuable_locked() const {
  const std::int64_t now_s = unix_s();
  const auto value = [now_s](const Entry& entry) {
    const base::Duration restore =
        entry.restore_took > base::Duration::zero() ? entry.restore_took : base::Duration(kAssumedRestore);
    const double saved_s = std::max(base::to_s(entry.manifest.start_took - restore), 0.001);
    const double idle_s = static_cast<double>(std::max<std::int64_t>(now_s - entry.last_used_unix_s, 0)) + 60.0;
    return saved_s / idle_s / static_cast<double>(std::max<std::uint64_t>(entry.manifest.bytes(), 1));
  };
  const auto least = std::min_element(entries_.begin(), entries_.end(),
                                      [&](const auto& a, const auto& b) { return value(a.second) < value(b.second); });
  return least == entries_.end() ? nullptr : &least->second;
}

base::Result<Manifest> ImageStore::commit(std::unique_ptr<ImageDraft> draft, Manifest manifest) {
  const std::string directory = draft->directory_;
  manifest.files.clear();
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string path = entry.path();
    THAW_RETURN_IF_ERROR(sync_file(path));
    THAW_ASSIGN_OR_RETURN(const FileIdentity identity, identity_of(path));
    THAW_ASSIGN_OR_RETURN(std::string digest, sha256_of_file(path));
    manifest.files.push_back({entry.path().filename(), identity.bytes, std::move(digest)});
  }
  if (error) return base::errno_error("cannot list " + directory, error.value());
  if (manifest.bytes() == 0) return unusable("the image is empty");
  if (manifest.bytes() > draft->reserved_bytes_)
    return base::Error{base::ErrorKind::exhausted,
                       fmt::format("the image has {}, and {} were reserved for it",
                                   base::format_bytes(manifest.bytes()), base::format_bytes(draft->reserved_bytes_))};
  std::sort(manifest.files.begin(), manifest.files.end(),
            [](const ImageFile& a, const ImageFile& b) { return a.name < b.name; });
  // These last: without them the directory is no image, under whatever name a crash leaves it.
  const std::string text = to_json(manifest);
  THAW_RETURN_IF_ERROR(write_durably(directory + "/" + kManifestName, text, 0600));
  THAW_RETURN_IF_ERROR(write_durably(directory + "/" + kDigestName, digest_line(text), 0600));
  THAW_RETURN_IF_ERROR(sync_directory(directory));
  const std::string target = directory_of(manifest.image);
  if (::rename(directory.c_str(), target.c_str()) != 0) return base::errno_error("cannot rename " + directory, errno);
  draft->directory_.clear();
  if (auto synced = sync_directory(settings_.directory); !synced.ok()) {
    (void)remove_tree(target);
    return synced.error();
  }
  Entry entry;
  entry.manifest = manifest;
  entry.last_used_unix_s = unix_s();
  for (const ImageFile& file : manifest.files) {
    THAW_ASSIGN_OR_RETURN(const FileIdentity identity, identity_of(target + "/" + file.name));
    entry.checked[file.name] = identity;
  }
  const std::lock_guard lock(mutex_);
  entries_.insert_or_assign(manifest.image, std::move(entry));
  return manifest;
}

// --- using one

std::string ImageStore::directory_of(const base::ImageId& image) const {
  return settings_.directory + "/" + image.str();
}

base::Result<Manifest> ImageStore::check(const base::ImageId& image, const Origin& now) {
  Entry entry;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(image);
    if (found == entries_.end()) return base::Error{base::ErrorKind::not_found, "there is no image " + image.str()};
    entry = found->second;
  }
  if (std::string changed = difference(entry.manifest.origin, now); !changed.empty()) return unusable(changed);
  for (const ImageFile& file : entry.manifest.files) {
    const std::string path = directory_of(image) + "/" + file.name;
    const auto identity = identity_of(path);
    if (!identity.ok()) return unusable(identity.error().message);
    if (const auto known = entry.checked.find(file.name); known != entry.checked.end() && known->second == *identity)
      continue;
    if (identity->bytes != file.bytes)
      return unusable(fmt::format("{} has {} bytes and should have {}", file.name, identity->bytes, file.bytes));
    const auto digest = sha256_of_file(path);
    if (!digest.ok()) return unusable(digest.error().message);
    if (*digest != file.sha256) return unusable("the contents of " + file.name + " are damaged (SHA-256 differs)");
    const std::lock_guard lock(mutex_);
    if (const auto found = entries_.find(image); found != entries_.end()) found->second.checked[file.name] = *identity;
  }
  return entry.manifest;
}

void ImageStore::note_use(const base::ImageId& image, base::Duration restore_took) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(image);
  if (found == entries_.end()) return;
  found->second.restore_took = restore_took;
  found->second.last_used_unix_s = unix_s();
  ::utimensat(AT_FDCWD, directory_of(image).c_str(), nullptr, 0);  // so that the next life knows; losing it is no harm
}

base::Result<std::uint64_t> ImageStore::drop(const base::ImageId& image) {
  const std::lock_guard lock(mutex_);
  return drop_locked(image);
}

base::Result<std::uint64_t> ImageStore::drop_locked(const base::ImageId& image) {
  const auto found = entries_.find(image);
  if (found == entries_.end()) return std::uint64_t{0};
  const std::uint64_t bytes = found->second.manifest.bytes();
  const std::string old = settings_.directory + "/" + kOldPrefix + image.str();
  THAW_RETURN_IF_ERROR(remove_tree(old));
  if (::rename(directory_of(image).c_str(), old.c_str()) != 0 && errno != ENOENT)
    return base::errno_error("cannot drop image " + image.str(), errno);
  entries_.erase(found);
  THAW_RETURN_IF_ERROR(remove_tree(old));
  return bytes;
}

}  // namespace thaw::node
