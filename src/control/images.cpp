// Images of initialised replicas: which start is a restore from one, and which makes room for another. Their disk is held until the node says
// that they are gone.
#include <algorithm>
#include <cassert>

#include "base/units.h"
#include "control/state.h"

namespace thaw::control {

namespace {

constexpr std::uint32_t kRestoresThatMayFail = 2;  ///< in a row; then the image is dropped
constexpr std::uint64_t kMaxImage_bytes = 1ULL << 50;  ///< a node that reports more is wrong, and sums must not wrap

void take_out(std::vector<Image*>& list, const Image* image) { list.erase(std::remove(list.begin(), list.end(), image), list.end()); }

/// That a driver for images makes them of.
spec::SandboxKind sandbox_of(wire::DriverKind driver) {
  return driver == wire::DriverKind::runsc ? spec::SandboxKind::runsc : spec::SandboxKind::runc;
}

}  // namespace

/// Never by a change of sandbox: the same engine may answer far more slowly in another one. Nor with secrets, which would lie in the image. Nor of engines
/// from container images, whose root is a mount of its own, or with a way to the network, which an image does not hold.
bool Node::can_snapshot(const spec::ModelSpec& model) const {
  if (!model.secrets.empty() || !model.image.empty() || !model.network.egress.empty()) return false;
  return std::any_of(drivers.begin(), drivers.end(), [&](const wire::DriverInfo& d) {
    return d.device == model.resources.device && d.snapshot && (d.gangs || model.resources.devices == 1) &&
           (model.sandbox ? *model.sandbox == sandbox_of(d.driver) : !d.opt_in);
  });
}

// --- the books

void Scheduler::State::adopt_image(wire::ImageInfo info, Node& node) {
  const base::ImageId id = info.image;
  if (node.images.count(id) > 0) return;
  info.bytes = std::min(info.bytes, kMaxImage_bytes);
  auto owned = std::make_unique<Image>();
  Image& image = *owned;
  image.info = std::move(info);
  image.node = &node;
  node.image_reserved += image.info.bytes;
  node.images.emplace(id, std::move(owned));
  images_by_id.emplace(id, &image);
  const auto found = models.find(image.info.model);
  if (found == models.end()) {  // its model may be deployed in a moment; until then it is the first to make room
    orphans[image.info.model].push_back(&image);
    return;
  }
  Model& m = *found->second;
  image.model = &m;
  m.images.push_back(&image);
  m.image_bytes = image.info.bytes;
}

void Scheduler::State::forget_image(Image& image) {
  if (image.model != nullptr) {
    take_out(image.model->images, &image);
    touch(*image.model);
  } else if (const auto found = orphans.find(image.info.model); found != orphans.end()) {
    take_out(found->second, &image);
    if (found->second.empty()) orphans.erase(found);
  }
  const auto [first, last] = images_by_id.equal_range(image.info.image);
  images_by_id.erase(std::find_if(first, last, [&](const auto& entry) { return entry.second == &image; }));
  Node& node = *image.node;
  if (image.dropping) node.image_leaving -= image.info.bytes;
  assert(node.image_reserved >= image.info.bytes);
  node.image_reserved -= image.info.bytes;
  node.images.erase(base::ImageId(image.info.image));
}

void Scheduler::State::drop(Image& image, std::string why, Actions& out) {
  if (image.dropping) return;
  image.dropping = true;
  image.node->image_leaving += image.info.bytes;
  out.emplace_back(std::in_place_type<Drop>, image.node->name, wire::DropImage{image.info.image}, std::move(why));
}

/// The model is another one from now on, or none.
void Scheduler::State::drop_images(Model& m, const std::string& why, Actions& out) {
  for (Image* image : m.images) {
    image->model = nullptr;
    drop(*image, why, out);
  }
  m.images.clear();
  m.snapshot_at = base::never();
}

Image* Scheduler::State::find_image(const base::ImageId& id) const {
  const auto found = images_by_id.find(id);
  return found == images_by_id.end() ? nullptr : found->second;
}

/// The image that a replica of `m` would be restored from on `node`: the newest that can be used; null if there is none.
Image* Scheduler::State::image_for(const Model& m, const Node& node) const {
  Image* best = nullptr;
  if (m.spec.snapshot.mode == spec::Mode::never || !node.can_snapshot(m.spec)) return nullptr;
  for (Image* image : m.images) {
    if (image->node != &node || image->dropping || image->info.device_bytes > m.all_bytes()) continue;
    if (best == nullptr || image->info.created_unix_s >= best->info.created_unix_s) best = image;
  }
  return best;
}

/// Restore or start, where there is an image. After a failure it is a start, whatever is faster otherwise.
WayAnswer Scheduler::State::way_up(Model& m) const {
  if (m.failures > 0) return {false, m.restores_preferred, "the last try failed"};
  if (m.spec.snapshot.mode == spec::Mode::always) return {true, true, "snapshot.mode is always"};
  WayAnswer answer = choose_way({&m.costs, m.ascents, m.restores_preferred});
  m.restores_preferred = answer.prefers_restore;
  return answer;
}

// --- restores

/// A start or restore ended in a ready replica. A restore that fell back to a start cost what it cost: that is what choosing it costs.
void Scheduler::State::came_up(Instance& i, const wire::InstanceReady& e, base::TimePoint now, Actions& out) {
  Model& m = *i.model;
  const base::Duration took = now - i.begun_at;
  ++m.cold_starts;
  if (i.way == wire::Way::restore) {
    m.costs.restore.note(took);
    Image* const image = find_image(i.image);
    if (e.way == wire::Way::restore) {
      ++m.restores;
      if (image != nullptr) {
        ++image->restores;
        image->failures = 0;
        base::Duration& fastest = image->node->fastest_restore;
        fastest = fastest == base::Duration::zero() ? took : std::min(fastest, took);
      }
      return;
    }
    m.last_failure = "restore: " + e.fell_back;
    image_failed(i, out);
    i.way = wire::Way::start;
  } else {
    m.costs.start.note(took);
    if (!e.copied_weights) m.loading_bytes = 0;
  }
  const Node& node = *i.device->owner;
  if (wants_image(m, node)) {
    m.snapshot_tries = 0;
    m.snapshot_at = now + policy.snapshot_after;
  }
}

/// A restore that did not end in a ready replica at all.
void Scheduler::State::restore_failed(Instance& i, base::TimePoint now, Actions& out) {
  if (i.way != wire::Way::restore) return;
  i.model->costs.restore.note(now - i.begun_at + i.model->costs.start.mean());
  i.model->fell_back = "the restore failed: " + i.model->last_failure;
  image_failed(i, out);
}

void Scheduler::State::image_failed(const Instance& i, Actions& out) {
  ++i.model->restore_failures;
  Image* const image = find_image(i.image);
  if (image == nullptr) return;
  if (++image->failures >= kRestoresThatMayFail) drop(*image, "restores from it failed", out);
}

const Image* Scheduler::State::image_on(const Model& m, const Node& node) {
  const auto found = std::find_if(m.images.begin(), m.images.end(), [&](const Image* image) { return image->node == &node && !image->dropping; });
  return found == m.images.end() ? nullptr : *found;
}

/// What it is expected to save, a byte of disk.
double Scheduler::State::image_worth(const Image& image, base::TimePoint now) const {
  if (image.model == nullptr) return 0;
  const Costs& costs = image.model->costs;
  return worth_per_byte(image.model->rate.per_second(now), costs.start.mean() - costs.restore.mean(), image.info.bytes);
}

/// Disk for a new image of `m`: how much may be reserved now; 0: not enough. Images that are worth less begin to make room meanwhile.
std::uint64_t Scheduler::State::make_disk_room(Node& node, const Model& m, base::TimePoint now, Actions& out) {
  // What the last one took and a quarter more; before there was one, all that a replica holds.
  const std::uint64_t want = std::max<std::uint64_t>(m.image_bytes > 0 ? m.image_bytes + m.image_bytes / 4 : m.all_bytes(), 1);
  const std::uint64_t free = node.image_budget - std::min(node.image_budget, node.image_reserved);
  if (free >= want) return want;
  const double worth = worth_per_byte(m.rate.per_second(now), m.costs.start.mean() - m.costs.restore.mean(), want);
  std::vector<std::pair<double, Image*>> lesser;
  std::uint64_t coming = free;
  for (const auto& [id, image] : node.images) {
    const double of_this = image->dropping ? 0 : image_worth(*image, now);
    if (image->dropping) coming += image->info.bytes;
    else if (image->model == nullptr || of_this < worth) lesser.emplace_back(of_this, image.get());
  }
  std::stable_sort(lesser.begin(), lesser.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [of_this, image] : lesser) {
    if (coming >= want) break;
    coming += image->info.bytes;
    drop(*image, "makes room for an image of " + m.name(), out);
  }
  // Weights that are mapped from their file are in no image, so a far smaller one may do: the node gives up at the reserve.
  constexpr std::uint64_t kWorthATry = 4;
  return coming == free && free >= want / kWorthATry ? free : 0;
}

void Scheduler::State::relieve_disk(Node& node, base::TimePoint now, Actions& out) {
  while (node.image_reserved > node.image_budget + node.image_leaving) {
    Image* least = nullptr;
    for (const auto& [id, image] : node.images) {
      if (image->dropping) continue;
      if (least == nullptr || image_worth(*image, now) < image_worth(*least, now)) least = image.get();
    }
    if (least == nullptr) return;
    drop(*least, "the disk budget for images is overdrawn", out);
  }
}

void Scheduler::State::image_gone(const wire::ImageGone& e, base::TimePoint now, Actions& out) {
  Image* const image = find_image(e.image);
  if (image == nullptr) return;
  Model* const m = image->model;
  const bool found_bad = !image->dropping;
  forget_image(*image);
  if (m != nullptr && found_bad) {  // built anew in the background
    m->last_snapshot_failure = e.reason;
    m->snapshot_tries = 0;
    m->snapshot_at = now + policy.snapshot_after;
  }
  work(now, out);
}

// --- by hand

base::Status Scheduler::State::drop_by_hand(const base::ImageId& id, base::TimePoint now, Actions& out) {
  Image* const image = find_image(id);
  if (image == nullptr) return base::Error{base::ErrorKind::not_found, "there is no image \"" + id.str() + "\"; `thaw images` lists them"};
  drop(*image, "asked for by hand", out);
  work(now, out);
  return {};
}

}  // namespace thaw::control
