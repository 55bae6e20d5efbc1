#include "node/pull/blob_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/units.h"
#include "node/images/digest.h"
#include "node/images/durable.h"
#include "node/pull/set_entry.h"
#include "node/sandbox/files.h"
#include "spec/source_ref.h"

namespace thaw::node::pull {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;

constexpr std::uint64_t kLeftFree = 64ULL << 20;  // of the disk, for everybody else's sake
constexpr std::uint64_t kBlock = 512;             // st_blocks' unit
constexpr mode_t kForAll = 0644;                  // sandboxed engines are other users

/// As far as the disk has given it; parts are made at full length.
std::uint64_t allocated_bytes(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return 0;
  return static_cast<std::uint64_t>(status.st_blocks) * kBlock;
}

template <typename Visit>
void each_entry(const std::string& directory, const Visit& visit) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) visit(entry->path());
}

base::Status rename_durably(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return base::errno_error("cannot rename " + from + " to " + to, errno);
  return sync_directory(fs::path(to).parent_path());
}

/// Also when it is there already.
base::Status replace_durably(const std::string& path, std::string_view text) {
  const std::string next = path + ".new";
  ::unlink(next.c_str());
  THAW_RETURN_IF_ERROR(write_durably(next, text, kForAll));
  return rename_durably(next, path);
}

}  // namespace

std::string short_key(std::string_view text) {
  constexpr std::size_t kDigits = 32;
  Sha256 digest;
  digest.add(text);
  return digest.finish().substr(0, kDigits);
}

std::string source_text(const spec::Source& source, bool directory_wanted) {
  const auto ref = spec::parse_hub_ref(source.hf);
  const bool either = !source.hf.empty() && ref.ok() && ref->file.empty() && ref->quantisation.empty();
  return spec::to_string(source) + (directory_wanted && either ? " (safetensors)" : "");
}

std::uint64_t PulledSet::bytes() const {
  std::uint64_t sum = 0;
  for (const PulledFile& file : files) sum += file.bytes;
  return sum;
}

std::string PulledSet::key() const {
  std::string all = main + "\n";
  for (const PulledFile& file : files) all += file.sha256 + " " + file.name + "\n";
  return short_key(all);
}

base::Status BlobStore::open() {
  // Sandboxed engines are other users, and what is shown to them is mounted file by file; directories need not be listed by others.
  for (const char* below : {"", "/tmp", "/blobs", "/blobs/sha256", "/sets", "/sources"})
    THAW_RETURN_IF_ERROR(make_directories(directory_ + below, 0711));
  // Half-made directories and entries of a run that was cut.
  each_entry(directory_ + "/sets", [](const fs::path& path) {
    std::error_code ignored;
    if (path.extension() == ".new") fs::remove_all(path, ignored);
  });
  for (const char* below : {"/sources", "/tmp"})
    each_entry(directory_ + below, [](const fs::path& path) {
      if (path.extension() == ".new") ::unlink(path.c_str());
    });
  return {};
}

std::string BlobStore::entry_path(const std::string& source) const {
  return directory_ + "/sources/" + short_key(source) + ".json";
}

std::string BlobStore::path_of(const PulledSet& set) const {
  return set_path(set.key()) + (set.main.empty() ? "" : "/" + set.main);
}

bool BlobStore::is_whole(const PulledSet& set) const {
  return std::all_of(set.files.begin(), set.files.end(), [&](const PulledFile& file) {
    struct stat status {};
    return ::stat((set_path(set.key()) + "/" + file.name).c_str(), &status) == 0 && static_cast<std::uint64_t>(status.st_size) == file.bytes;
  });
}

std::optional<PulledSet> BlobStore::find(const spec::Source& source, bool directory_wanted) const {
  const std::string name = source_text(source, directory_wanted);
  const auto text = read_small_file(entry_path(name));
  if (!text.ok()) return std::nullopt;
  auto set = parse_set(*text);
  if (!set.ok() || set->source != name || !is_whole(*set)) return std::nullopt;
  if (!source.sha256.empty() && (set->files.size() != 1 || set->files.front().sha256 != source.sha256)) return std::nullopt;
  return *std::move(set);
}

std::vector<PulledSet> BlobStore::sets() const {
  std::vector<PulledSet> all;
  each_entry(directory_ + "/sources", [&](const fs::path& path) {
    const auto text = read_small_file(path);
    if (!text.ok()) return;
    if (auto set = parse_set(*text); set.ok()) all.push_back(*std::move(set));
  });
  std::sort(all.begin(), all.end(), [](const PulledSet& a, const PulledSet& b) { return a.source < b.source; });
  return all;
}

bool BlobStore::has_blob(const std::string& sha256, std::uint64_t* bytes) const {
  struct stat status {};
  if (::stat(blob_path(sha256).c_str(), &status) != 0) return false;
  if (bytes != nullptr) *bytes = static_cast<std::uint64_t>(status.st_size);
  return true;
}

std::uint64_t BlobStore::part_bytes(const std::string& key) const {
  return allocated_bytes(part_path(key));
}

base::Status BlobStore::put_journal(const std::string& key, std::string_view text) {
  return replace_durably(journal_path(key), text);
}

void BlobStore::drop_part(const std::string& key) {
  ::unlink(journal_path(key).c_str());
  ::unlink(part_path(key).c_str());
}

base::Status BlobStore::keep_part(const std::string& key, const std::string& sha256) {
  if (::chmod(part_path(key).c_str(), kForAll) != 0) return base::errno_error("cannot set the mode of " + part_path(key), errno);
  THAW_RETURN_IF_ERROR(sync_file(part_path(key)));
  const std::lock_guard lock(mutex_);
  THAW_RETURN_IF_ERROR(rename_durably(part_path(key), blob_path(sha256)));
  ::unlink(journal_path(key).c_str());
  return {};
}

base::Status BlobStore::keep_set(const PulledSet& set) {
  const std::lock_guard lock(mutex_);
  const std::string directory = set_path(set.key());
  if (!is_whole(set)) {
    std::error_code error;
    fs::remove_all(directory, error);  // one that somebody took files out of
    const std::string next = directory + ".new";
    fs::remove_all(next, error);
    THAW_RETURN_IF_ERROR(make_directories(next, 0755));
    for (const PulledFile& file : set.files)
      if (::link(blob_path(file.sha256).c_str(), (next + "/" + file.name).c_str()) != 0)
        return base::errno_error("cannot link " + file.name + " into " + next, errno);
    THAW_RETURN_IF_ERROR(sync_directory(next));
    THAW_RETURN_IF_ERROR(rename_durably(next, directory));
  }
  return replace_durably(entry_path(set.source), to_json(set));
}

BlobStore::Usage BlobStore::look() const {
  Usage usage;
  usage.budget_bytes = budget_bytes_;
  each_entry(directory_ + "/blobs/sha256", [&](const fs::path& path) { usage.blob_bytes += allocated_bytes(path); });
  each_entry(directory_ + "/tmp", [&](const fs::path& path) { usage.part_bytes += allocated_bytes(path); });
  for (const auto& [holder, bytes] : reserved_) usage.reserved_bytes += bytes;
  struct statvfs disk {};
  if (::statvfs(directory_.c_str(), &disk) == 0) usage.free_bytes = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  return usage;
}

BlobStore::Usage BlobStore::usage() const {
  const std::lock_guard lock(mutex_);
  return look();
}

base::Status BlobStore::reserve(const std::string& holder, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  reserved_.erase(holder);
  const Usage now = look();
  const std::uint64_t taken = now.blob_bytes + now.part_bytes + now.reserved_bytes;
  if (budget_bytes_ && taken + bytes > *budget_bytes_)
    return Error{
        ErrorKind::exhausted,
        fmt::format(
            "{} more are needed, and of the budget of {} for pulled models {} are left; free some (`thaw models gc`), or raise sources.diskBudget",
            base::format_bytes(bytes), base::format_bytes(*budget_bytes_), base::format_bytes(*budget_bytes_ - std::min(*budget_bytes_, taken)))};
  const std::uint64_t left = now.free_bytes - std::min(now.free_bytes, now.reserved_bytes + kLeftFree);
  if (bytes > left)
    return Error{
        ErrorKind::exhausted,
        fmt::format(
            "{} more are needed, and the disk of {} has room for {}; free some (`thaw models gc`), or move the data directory to a larger disk",
            base::format_bytes(bytes), directory_, base::format_bytes(left))};
  reserved_[holder] = bytes;
  return {};
}

void BlobStore::release(const std::string& holder) {
  const std::lock_guard lock(mutex_);
  reserved_.erase(holder);
}

bool BlobStore::take_key(const std::string& key) {
  const std::lock_guard lock(mutex_);
  return keys_.insert(key).second;
}

void BlobStore::release_key(const std::string& key) {
  const std::lock_guard lock(mutex_);
  keys_.erase(key);
}

void BlobStore::hold(const std::string& name) {
  const std::lock_guard lock(mutex_);
  held_.insert(name);
}

void BlobStore::let_go(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (const auto found = held_.find(name); found != held_.end()) held_.erase(found);
}

base::Result<std::vector<Garbage>> BlobStore::collect(const std::set<std::string>& used_paths, bool dry_run) {
  std::vector<PulledSet> all = sets();
  const std::lock_guard lock(mutex_);
  std::vector<Garbage> garbage;
  std::map<std::string, std::string> wanted;    // digests that stay
  std::map<std::string, std::string> unwanted;  // the other sets' digests, with their source
  std::set<std::string> kept_keys;
  for (const PulledSet& set : all) {
    const bool used = used_paths.contains(path_of(set)) || held_.contains(set.source);
    if (used) kept_keys.insert(set.key());
    for (const PulledFile& file : set.files) (used ? wanted : unwanted).emplace(file.sha256, set.source);
    if (!used && !dry_run) ::unlink(entry_path(set.source).c_str());
  }
  std::error_code error;
  each_entry(directory_ + "/sets", [&](const fs::path& path) {
    const bool used = kept_keys.contains(path.filename()) || std::any_of(used_paths.begin(), used_paths.end(), [&](const std::string& used_path) {
                        return used_path == path || fs::path(used_path).parent_path() == path;
                      });
    if (used) {
      // An older entry's set that a model still has: its files stay, whatever its source leads to now.
      each_entry(path, [&](const fs::path& file) {
        struct stat status {};
        if (::stat(file.c_str(), &status) == 0) wanted.emplace(fmt::format("inode {}", status.st_ino), path);
      });
    } else if (!dry_run) {
      fs::remove_all(path, error);
    }
  });
  std::map<std::string, std::uint64_t> freed_of;
  each_entry(directory_ + "/blobs/sha256", [&](const fs::path& path) {
    const std::string digest = path.filename();
    struct stat status {};
    if (wanted.contains(digest) || held_.contains(digest) || ::stat(path.c_str(), &status) != 0 ||
        wanted.contains(fmt::format("inode {}", status.st_ino)))
      return;
    const auto source = unwanted.find(digest);
    freed_of[source == unwanted.end() ? "sha256:" + digest : source->second] += allocated_bytes(path);
    if (!dry_run && ::unlink(path.c_str()) != 0) spdlog::warn("cannot remove {}: {}", path.string(), errno);
  });
  for (const auto& [what, bytes] : freed_of) garbage.push_back({what, bytes});
  each_entry(directory_ + "/tmp", [&](const fs::path& path) {
    if (keys_.contains(path.stem())) return;
    if (path.extension() == ".part") garbage.push_back({"an unfinished pull", allocated_bytes(path)});
    if (!dry_run) ::unlink(path.c_str());
  });
  return garbage;
}

}  // namespace thaw::node::pull
