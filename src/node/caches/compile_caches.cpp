#include "node/caches/compile_caches.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/units.h"
#include "node/caches/tree.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kMaxSlots = 1'000;  // of one key; a model has at most as many replicas
constexpr int kLevels = 4;             // tenant, model, engine-device, number

std::int64_t unix_s() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string files_of(const std::string& slot) {
  return slot + "/files";
}
std::string state_of(const std::string& slot) {
  return slot + "/state";
}

/// Names of tenants and models are checked where they come from; a path is made of them here.
bool is_plain(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string::npos;
}

}  // namespace

CompileCaches::Lease::Lease(CompileCaches& owner, std::string slot)
    : owner_(owner), slot_(std::move(slot)), directory_(files_of(slot_)) {}

CompileCaches::Lease::~Lease() {
  owner_.release(slot_);
}

base::Status CompileCaches::Lease::give_to(std::uint32_t uid) const {
  const base::Status given = give_tree(directory_, uid);
  if (given.ok() || given.error().kind != base::ErrorKind::exhausted) return given;
  spdlog::warn("compile cache {} is emptied: {}", slot_, given.error().message);
  THAW_RETURN_IF_ERROR(empty_foreign_tree(directory_));
  return give_tree(directory_, uid);
}

base::Result<std::unique_ptr<CompileCaches>> CompileCaches::open(Settings settings) {
  THAW_RETURN_IF_ERROR(make_directories(settings.directory, 0700));
  std::unique_ptr<CompileCaches> caches(new CompileCaches(std::move(settings)));
  caches->find_slots();
  caches->thread_ = std::thread([raw = caches.get()] { raw->run(); });
  return caches;
}

CompileCaches::~CompileCaches() {
  {
    const std::lock_guard lock(orders_mutex_);
    closing_ = true;
  }
  ordered_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (const auto& [slot, state] : slots_)
    if (state.in_use) spdlog::error("compile cache {} is still in use", slot);
}

void CompileCaches::find_slots() {
  std::error_code error;
  fs::recursive_directory_iterator entry(settings_.directory, error);
  for (const fs::recursive_directory_iterator end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_symlink(ignored) || !entry->is_directory(ignored)) continue;
    if (entry.depth() < kLevels - 1) continue;
    entry.disable_recursion_pending();  // below are engines' own files
    const std::string slot = entry->path();
    Slot& state = slots_[slot];
    const auto text = read_small_file(state_of(slot));
    std::istringstream words(text.ok() ? *text : "");
    if (words >> state.bytes >> state.used_unix_s) continue;
    const auto bytes = tree_bytes(files_of(slot));
    state = {};
    state.bytes = bytes.ok() ? *bytes : settings_.budget_bytes;  // what cannot be measured goes first
  }
  const std::lock_guard lock(mutex_);
  keep_to_budget_locked();
}

base::Result<std::unique_ptr<CompileCaches::Lease>> CompileCaches::lease(const Key& key) {
  if (settings_.budget_bytes == 0)
    return base::Error{base::ErrorKind::unavailable, "no compile caches are kept (node.compileCaches.budget is 0)"};
  if (!is_plain(key.tenant.str()) || !is_plain(key.model.str()))
    return base::Error{base::ErrorKind::invalid, "cannot keep a compile cache for " + key.tenant.str() + "/" +
                                                     key.model.str() + ": no such name"};
  const std::string home = fmt::format("{}/{}/{}/{}-{}", settings_.directory, key.tenant.str(), key.model.str(),
                                       spec::to_string(key.engine), spec::to_string(key.device));
  const std::lock_guard lock(mutex_);
  for (unsigned number = 0; number < kMaxSlots; ++number) {
    const std::string slot = fmt::format("{}/{}", home, number);
    const auto known = slots_.find(slot);
    if (known != slots_.end() && known->second.in_use) continue;
    THAW_RETURN_IF_ERROR(make_directories(files_of(slot), 0700));
    Slot& state = slots_[slot];
    state.in_use = true;
    state.condemned = false;
    return std::unique_ptr<Lease>(new Lease(*this, slot));
  }
  return base::Error{base::ErrorKind::exhausted,
                     fmt::format("{} has {} compile caches in use", key.model.str(), kMaxSlots)};
}

void CompileCaches::release(const std::string& slot) {
  const auto measured = tree_bytes(files_of(slot));  // outside the lock: nobody else has it
  const std::lock_guard lock(mutex_);
  Slot& state = slots_[slot];
  state.in_use = false;
  state.used_unix_s = unix_s();
  state.used_order = ++uses_;
  if (state.condemned) return remove_locked(slot, "its model was removed");
  if (!measured.ok()) return remove_locked(slot, measured.error().message);
  state.bytes = *measured;
  if (state.bytes > settings_.budget_bytes) return remove_locked(slot, "it is larger than all of them may be together");
  if (auto written = write_file(state_of(slot), fmt::format("{} {}\n", state.bytes, state.used_unix_s), 0600);
      !written.ok())
    spdlog::warn("{}", written.error().message);  // it is measured again
  keep_to_budget_locked();
}

void CompileCaches::forget(const base::TenantName& tenant, const base::ModelName& model) {
  const std::lock_guard lock(orders_mutex_);
  to_forget_.emplace(tenant, model);
  ordered_.notify_all();
}

void CompileCaches::run() {
  std::unique_lock lock(orders_mutex_);
  for (;;) {
    ordered_.wait_for(lock, settings_.look_every, [this] { return closing_ || !to_forget_.empty(); });
    const std::set<Names> to_forget = std::exchange(to_forget_, {});
    const bool closing = closing_;
    lock.unlock();
    for (const Names& names : to_forget) forget_now(names);
    if (closing) return;
    look_at_used();
    lock.lock();
  }
}

/// An engine could fill the disk with what it keeps; what it compiled it can compile again.
void CompileCaches::look_at_used() {
  std::vector<std::string> used;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [slot, state] : slots_)
      if (state.in_use) used.push_back(slot);
  }
  for (const std::string& slot : used) {
    const auto bytes = tree_bytes(files_of(slot));  // it may be released, or removed, meanwhile
    if (bytes.ok() && *bytes <= settings_.budget_bytes) continue;
    if (!bytes.ok() && bytes.error().kind != base::ErrorKind::exhausted) continue;
    spdlog::warn(
        "compile cache {} is emptied while its engine runs: {}", slot,
        bytes.ok() ? "it holds " + base::format_bytes(*bytes) + ", more than all may together" : bytes.error().message);
    if (auto emptied = empty_foreign_tree(files_of(slot)); !emptied.ok()) spdlog::error("{}", emptied.error().message);
  }
}

void CompileCaches::forget_now(const Names& names) {
  const auto& [tenant, model] = names;
  if (!is_plain(tenant.str()) || !is_plain(model.str())) return;
  const std::string home = fmt::format("{}/{}/{}/", settings_.directory, tenant.str(), model.str());
  const std::lock_guard lock(mutex_);
  for (auto it = slots_.lower_bound(home); it != slots_.end() && it->first.starts_with(home);) {
    const std::string slot = it->first;
    Slot& state = it->second;
    ++it;
    if (state.in_use)
      state.condemned = true;
    else
      remove_locked(slot, "its model was removed");
  }
}

std::uint64_t CompileCaches::bytes() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& [slot, state] : slots_) sum += state.bytes;
  return sum;
}

/// With the directories above it that are empty by then.
void CompileCaches::remove_locked(const std::string& slot, const std::string& why) {
  spdlog::info("compile cache {} is removed: {}", slot, why);
  if (auto removed = remove_foreign_tree(slot); !removed.ok()) {
    spdlog::error("{}", removed.error().message);
    slots_[slot].used_unix_s = 0;  // tried again when room is needed
    return;
  }
  slots_.erase(slot);
  fs::path above = fs::path(slot).parent_path();
  std::error_code error;
  for (int level = 0; level < kLevels - 1 && fs::remove(above, error) && !error; ++level) above = above.parent_path();
}

void CompileCaches::keep_to_budget_locked() {
  std::uint64_t sum = 0;
  for (const auto& [slot, state] : slots_) sum += state.bytes;
  while (sum > settings_.budget_bytes) {
    auto oldest = slots_.end();
    for (auto it = slots_.begin(); it != slots_.end(); ++it) {
      if (it->second.in_use) continue;
      const auto age = [](const Slot& state) { return std::pair(state.used_unix_s, state.used_order); };
      if (oldest == slots_.end() || age(it->second) < age(oldest->second)) oldest = it;
    }
    if (oldest == slots_.end()) return;
    const std::string slot = oldest->first;
    sum -= oldest->second.bytes;
    remove_locked(slot, "others were used since, and there is no room for all");
    if (slots_.contains(slot)) return;  // it could not be removed
  }
}

}  // namespace thaw::node
