#include "node/oci/container_images.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/units.h"
#include "net/loop.h"
#include "node/caches/tree.h"
#include "node/oci/image_record.h"
#include "node/sandbox/bundle.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr const char* kAnybody = "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}\n";

std::string hex_of(const std::string& digest) {
  return digest.substr(digest.find(':') + 1);
}

/// Waiting may help.
bool passes(ErrorKind kind) {
  return kind == ErrorKind::unavailable || kind == ErrorKind::timeout || kind == ErrorKind::io || kind == ErrorKind::exhausted;
}

}  // namespace

const char* to_string(ContainerImages::State state) {
  using State = ContainerImages::State;
  switch (state) {
    case State::absent:
      return "absent";
    case State::waiting:
      return "waiting";
    case State::fetching:
      return "fetching";
    case State::unpacking:
      return "unpacking";
    case State::ready:
      return "ready";
    case State::failed:
      return "failed";
  }
  return "absent";
}

ContainerImages::ContainerImages(Options options, OciTools tools, LayerStore layers, std::uint32_t uid_slot)
    : options_(std::move(options)), tools_(std::move(tools)), layers_(std::move(layers)), uid_slot_(uid_slot) {}

base::Result<std::unique_ptr<ContainerImages>> ContainerImages::open(Options options) {
  const std::string& directory = options.directory;
  // Passed through by the tools' user to what is its own; read by nobody.
  for (const char* part : {"", "/work"}) {
    THAW_RETURN_IF_ERROR(make_directories(directory + part, 0711));
    if (::chmod((directory + part).c_str(), 0711) != 0) return base::errno_error("cannot set the mode of " + directory + part, errno);
  }
  THAW_RETURN_IF_ERROR(make_directories(directory + "/images", 0700));
  std::string policy = options.settings.policy_path;
  if (policy.empty()) {
    policy = directory + "/policy.json";
    THAW_RETURN_IF_ERROR(write_file(policy, kAnybody, 0644));
  }
  THAW_ASSIGN_OR_RETURN(LayerStore layers, LayerStore::open(directory));
  THAW_ASSIGN_OR_RETURN(const std::uint32_t slot, options.home.uid_slots->take());
  OciTools tools({.settings = options.settings,
                  .policy_path = policy,
                  .skopeo = options.skopeo,
                  .umoci = options.umoci,
                  .uid = options.home.uid_base + slot * kUidRange + kInsideUid,
                  .cgroup = [home = options.home, made = std::make_shared<std::atomic<std::uint64_t>>(0)]() -> std::unique_ptr<Cgroup> {
                    if (!home.cgroups) return nullptr;
                    return std::make_unique<Cgroup>(home.cgroups, fmt::format("{}/image{}", home.cgroups->parent_path(home.label), ++*made));
                  },
                  .network = options.network});
  std::unique_ptr<ContainerImages> images(new ContainerImages(std::move(options), std::move(tools), std::move(layers), slot));
  THAW_RETURN_IF_ERROR(images->load());
  for (unsigned i = 0; i < kWorkers; ++i) images->workers_.emplace_back([raw = images.get()] { raw->worker(); });
  return images;
}

ContainerImages::~ContainerImages() {
  stop_.request_stop();
  { const std::lock_guard lock(mutex_); }
  changed_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  options_.home.uid_slots->give_back(uid_slot_);
}

std::string ContainerImages::work_of(const std::string& digest) const {
  return options_.directory + "/work/" + hex_of(digest);
}
std::string ContainerImages::record_of(const std::string& digest) const {
  return options_.directory + "/images/" + hex_of(digest) + ".json";
}

base::Status ContainerImages::load() {
  std::error_code ignored;
  for (const auto& file : std::filesystem::directory_iterator(options_.directory + "/images", ignored)) {
    const auto text = read_small_file(file.path());
    auto image = text.ok() ? read_image_record(*text) : base::Result<StoredImage>(text.error());
    if (!image.ok() || record_of(image->digest) != file.path()) {
      spdlog::warn("{} is no record of an image; it is left out: {}", file.path().string(), image.ok() ? "of another name" : image.error().message);
      continue;
    }
    const auto& ids = image->config.diff_ids;
    if (!std::all_of(ids.begin(), ids.end(), [this](const std::string& id) { return layers_.has(id); })) continue;  // fetched again when it is wanted
    Entry& entry = entries_[image->digest];
    entry.view.digest = image->digest;
    entry.view.image = image->name;
    entry.view.state = State::ready;
    entry.config = std::move(image->config);
  }
  count_used();
  return {};
}

void ContainerImages::count_used() {
  std::uint64_t bytes = 0;
  for (const auto& [id, size] : layers_.layers()) bytes += size.bytes;
  const std::lock_guard lock(mutex_);
  layer_bytes_ = bytes;
}

/// With what an earlier life, whose tools were another user, left there.
base::Status ContainerImages::make_work(const std::string& work) const {
  THAW_RETURN_IF_ERROR(make_directories(work, 0711));
  THAW_RETURN_IF_ERROR(remove_foreign_tree(work + "/tmp"));
  for (const char* part : {"/tmp", "/layout"}) {
    THAW_RETURN_IF_ERROR(make_directories(work + part, 0700));
    THAW_RETURN_IF_ERROR(give_tree(work + part, tools_.uid()));
  }
  return {};
}

base::Result<std::string> ContainerImages::resolve(const std::string& image) {
  THAW_ASSIGN_OR_RETURN(const spec::ImageRef ref, spec::parse_image_ref(image, ""));
  std::string work;
  {
    const std::lock_guard lock(mutex_);
    work = fmt::format("{}/work/resolve{}", options_.directory, ++resolved_);
  }
  THAW_RETURN_IF_ERROR(make_work(work));
  auto digest = ImageFetch::resolve(tools_, ref, work + "/tmp", stop_.get_token());
  (void)remove_foreign_tree(work);
  return digest;
}

base::Status ContainerImages::want(const std::string& image, const std::string& digest) {
  {
    const std::lock_guard lock(mutex_);
    if (!entries_.contains(digest) && entries_.size() >= kMaxImages)
      return Error{ErrorKind::exhausted, fmt::format("this node has {} images; remove what no model has (thaw container-images gc)", kMaxImages)};
    Entry& entry = entries_[digest];
    entry.view.digest = digest;
    entry.view.image = image;
    if (entry.view.state != State::absent && entry.view.state != State::failed) return {};
    if (entry.busy) return {};
    entry.view.state = State::waiting;
    entry.retry_at = base::never();
  }
  changed_.notify_all();
  return {};
}

ContainerImages::View ContainerImages::view_of(const Entry& entry) {
  View view = entry.view;
  if (view.state == State::failed && entry.retry_at != base::never())
    view.retry_in = std::max<base::Duration>(entry.retry_at - now(), base::Duration::zero());
  return view;
}

ContainerImages::View ContainerImages::look(const std::string& digest) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(digest);
  return found == entries_.end() ? View{} : view_of(found->second);
}

std::vector<ContainerImages::View> ContainerImages::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<View> views;
  for (const auto& [digest, entry] : entries_) views.push_back(view_of(entry));
  return views;
}

std::shared_ptr<const ImageRoot> ContainerImages::root_of_locked(const std::string& digest, Entry& entry) {
  if (auto shared = entry.root.lock()) return shared;
  auto root = std::make_shared<ImageRoot>();
  root->digest = digest;
  root->config = *entry.config;
  // A layer that is there twice counts where it is topmost, and an overlay takes none twice.
  std::set<std::string> seen;
  for (auto id = entry.config->diff_ids.rbegin(); id != entry.config->diff_ids.rend(); ++id)
    if (seen.insert(*id).second) root->layers.push_back(layers_.tree(*id));
  entry.root = root;
  return root;
}

base::Result<std::shared_ptr<const ImageRoot>> ContainerImages::take(const std::string& image, const std::string& digest, base::Duration timeout,
                                                                     const std::stop_token& stop) {
  THAW_RETURN_IF_ERROR(want(image, digest));
  const auto until = std::chrono::steady_clock::now() + timeout;
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto found = entries_.find(digest);
    if (found == entries_.end()) return Error{ErrorKind::unavailable, "image " + image + " was removed meanwhile"};
    Entry& entry = found->second;
    if (entry.view.state == State::ready) return root_of_locked(digest, entry);
    if (entry.view.state == State::failed) return *entry.view.error;
    if (stop.stop_requested() || stop_.stop_requested()) return Error{ErrorKind::unavailable, "the start ended early"};
    const bool changed = changed_.wait_until(lock, stop, until, [&] {
      const auto now_there = entries_.find(digest);
      return now_there == entries_.end() || now_there->second.view.state == State::ready || now_there->second.view.state == State::failed ||
             stop_.stop_requested();
    });
    if (!changed && !stop.stop_requested())  // then it is there still, though perhaps anew: it is looked up again
      return Error{ErrorKind::timeout, fmt::format("image {} was not here by the start deadline ({}); `thaw container-images` shows how far it is",
                                                   image, to_string(entries_[digest].view.state))};
  }
}

std::string ContainerImages::next_locked() {
  for (auto& [digest, entry] : entries_) {
    const bool due = entry.view.state == State::waiting || (entry.view.state == State::failed && entry.retry_at <= now());
    if (due && !entry.busy) return digest;
  }
  return {};
}

base::TimePoint ContainerImages::next_retry_locked() const {
  base::TimePoint next = now() + base::Seconds(3600);
  for (const auto& [digest, entry] : entries_)
    if (entry.view.state == State::failed && !entry.busy) next = std::min(next, entry.retry_at);
  return next;
}

void ContainerImages::worker() {
  std::unique_lock lock(mutex_);
  while (!stop_.stop_requested()) {
    const std::string digest = next_locked();
    if (digest.empty()) {
      changed_.wait_for(lock, std::max<base::Duration>(next_retry_locked() - now(), base::Millis(1)));
      continue;
    }
    Entry& entry = entries_[digest];
    entry.busy = true;
    entry.view.state = State::fetching;
    entry.view.total_bytes = entry.view.done_bytes = 0;
    lock.unlock();
    fetch(digest);
    lock.lock();
  }
}

void ContainerImages::fetch(const std::string& digest) {
  std::string image;
  {
    const std::lock_guard lock(mutex_);
    image = entries_[digest].view.image;
  }
  spdlog::info("image {} ({}): fetching", image, digest);
  const std::string work = work_of(digest);
  const auto all_of_it = [&]() -> base::Result<OciConfig> {
    THAW_ASSIGN_OR_RETURN(const spec::ImageRef ref, spec::parse_image_ref(image, ""));
    THAW_RETURN_IF_ERROR(make_work(work));
    ImageFetch one({.tools = tools_,
                    .layers = layers_,
                    .unpacking = unpacking_,
                    .settings = options_.settings,
                    .work = work,
                    .used_bytes =
                        [this] {
                          const std::lock_guard lock(mutex_);
                          return layer_bytes_;
                        },
                    .progress =
                        [this, &digest](const FetchProgress& progress) {
                          if (progress.step == FetchProgress::Step::unpacking) count_used();
                          const std::lock_guard lock(mutex_);
                          View& view = entries_[digest].view;
                          view.state = progress.step == FetchProgress::Step::unpacking ? State::unpacking : State::fetching;
                          view.total_bytes = progress.total_bytes;
                          view.done_bytes = progress.done_bytes;
                        },
                    .stop = stop_.get_token()});
    auto config = one.run(ref, digest);
    if (!config.ok()) return config.error();
    THAW_RETURN_IF_ERROR(write_durably_again(record_of(digest), to_json(StoredImage{digest, image, *config, net::unix_ms()})));
    return config;
  };
  finish(digest, all_of_it());
}

void ContainerImages::finish(const std::string& digest, const base::Result<OciConfig>& fetched) {
  // What was fetched for a try that may go on is kept; a full disk is what it would fill.
  const bool keep = !fetched.ok() && fetched.error().kind != ErrorKind::exhausted && fetched.error().kind != ErrorKind::invalid;
  if (!keep) (void)remove_foreign_tree(work_of(digest));
  count_used();
  {
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[digest];
    entry.busy = false;
    if (fetched.ok()) {
      entry.config = *fetched;
      entry.view.state = State::ready;
      entry.view.error.reset();
      entry.failures = 0;
      spdlog::info("image {} ({}): here, {} layers", entry.view.image, digest, fetched->diff_ids.size());
    } else if (!stop_.stop_requested()) {
      entry.view.state = State::failed;
      entry.view.error = fetched.error();
      base::Duration wait = kFirstRetry;
      for (std::uint32_t i = 0; i < entry.failures && wait < kLongestRetry; ++i) wait *= 2;
      ++entry.failures;
      entry.retry_at = passes(fetched.error().kind) ? now() + std::min(wait, kLongestRetry) : base::never();
      spdlog::warn("image {} ({}): {}", entry.view.image, digest, fetched.error().message);
    }
  }
  changed_.notify_all();
}

ContainerImages::Usage ContainerImages::usage() const {
  Usage usage;
  usage.budget_bytes = options_.settings.budget_bytes;
  for (const auto& [id, size] : layers_.layers()) {
    ++usage.layers;
    usage.layer_bytes += size.bytes;
  }
  if (auto work = tree_bytes(options_.directory + "/work"); work.ok()) usage.work_bytes = *work;
  return usage;
}

base::Result<std::vector<Garbage>> ContainerImages::collect(const std::set<std::string>& used, bool dry_run) {
  const std::unique_lock no_layer_comes(unpacking_, std::try_to_lock);
  if (!no_layer_comes) return Error{ErrorKind::conflict, "an image is being unpacked; try again when it is done"};
  std::vector<Garbage> garbage;
  std::set<std::string> needed_layers;
  std::set<std::string> busy_work;
  {
    const std::lock_guard lock(mutex_);
    for (auto at = entries_.begin(); at != entries_.end();) {
      auto& [digest, entry] = *at;
      const bool keep = used.contains(digest) || entry.busy || entry.root.lock() != nullptr;
      if (keep) {
        busy_work.insert(hex_of(digest));
        if (entry.config) needed_layers.insert(entry.config->diff_ids.begin(), entry.config->diff_ids.end());
        ++at;
        continue;
      }
      garbage.push_back({fmt::format("image {} ({})", entry.view.image, digest), 0});
      if (!dry_run) ::unlink(record_of(digest).c_str());
      at = dry_run ? std::next(at) : entries_.erase(at);
    }
    // A fetch under way knows its layers only when it is done; so long none go.
    if (std::any_of(entries_.begin(), entries_.end(), [](const auto& one) { return one.second.busy; })) return garbage;
  }
  for (const auto& [id, size] : layers_.layers()) {
    if (needed_layers.contains(id)) continue;
    garbage.push_back({"layer " + id, size.bytes});
    if (!dry_run) THAW_RETURN_IF_ERROR(layers_.remove(id));
  }
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(options_.directory + "/work", ignored)) {
    const std::string name = entry.path().filename();
    if (busy_work.contains(name) || name.starts_with("resolve")) continue;
    const auto bytes = tree_bytes(entry.path());
    garbage.push_back({"unfinished sha256:" + name, bytes.ok() ? *bytes : 0});
    if (!dry_run) THAW_RETURN_IF_ERROR(remove_foreign_tree(entry.path()));
  }
  if (!dry_run) count_used();
  return garbage;
}

}  // namespace thaw::node
