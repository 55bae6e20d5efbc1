#include <algorithm>
#include <limits>
#include <set>

#include <fmt/format.h>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "base/revision.h"
#include "base/tenancy.h"
#include "spec/parse.h"
#include "spec/problems.h"
#include "wire/message_form.h"
#include "wire/messages.h"
#include "wire/object_reader.h"

namespace thaw::wire {
namespace {

namespace json = boost::json;

void read(ObjectReader& from, DeviceInfo& device) {
  from.name("id", device.id);
  from.choice("kind", {spec::DeviceKind::cpu, spec::DeviceKind::cuda}, device.kind);
  from.text("name", device.name);
  from.text("uuid", device.uuid);
  from.natural("total_bytes", device.total_bytes);
  from.natural("budget_bytes", device.budget_bytes);
  if (from.ok() && device.budget_bytes > device.total_bytes) from.fail("budget_bytes", "is more than total_bytes");
}

const std::vector<DriverKind> kDrivers = {DriverKind::freezer, DriverKind::runsc, DriverKind::cuda, DriverKind::engine,
                                          DriverKind::criu};

void read(ObjectReader& from, DriverInfo& driver) {
  from.choice("driver", kDrivers, driver.driver);
  from.choice("device", {spec::DeviceKind::cpu, spec::DeviceKind::cuda}, driver.device);
  from.flag("standby", driver.standby);
  from.flag("snapshot", driver.snapshot);
  from.text("why_not", driver.why_not);
  from.flag("opt_in", driver.opt_in);
  if (from.has("gangs")) from.flag("gangs", driver.gangs);
}

/// It becomes a directory's name on the node.
bool is_image_id(const std::string& id) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' || c == base::kTenantMark || c == base::kRevisionMark;
  };
  return !id.empty() && id.size() <= kMaxImageId && id[0] != '.' && std::all_of(id.begin(), id.end(), allowed);
}

/// Whether an image has to be named, or "" may stand for none.
enum class ImageField { named, may_be_none };

void read_image_id(ObjectReader& from, const char* key, base::ImageId& into, ImageField field = ImageField::named) {
  std::string id;
  from.text(key, id);
  if (from.ok() && !is_image_id(id) && !(id.empty() && field == ImageField::may_be_none))
    from.fail(key, fmt::format("must be 1 to {} of [a-z0-9._~@-] and not begin with a dot", kMaxImageId));
  into = base::ImageId(std::move(id));
}

void read(ObjectReader& from, ImageInfo& image) {
  read_image_id(from, "image", image.image);
  from.name("model", image.model);
  from.choice("driver", kDrivers, image.driver);
  from.natural("bytes", image.bytes);
  from.natural("device_bytes", image.device_bytes);
  from.natural("created_unix_s", image.created_unix_s);
}

void read(ObjectReader& from, Phase& phase) {
  from.text("name", phase.name);
  from.duration_ns("start_ns", phase.start);
  from.duration_ns("duration_ns", phase.duration);
  if (!from.has("read_bytes") && !from.has("resident_bytes")) return;
  phase.bytes.emplace();
  from.natural("read_bytes", phase.bytes->read);
  from.natural("resident_bytes", phase.bytes->resident);
}

void read(ObjectReader& from, NodeHello& hello) {
  from.name("node", hello.node);
  from.list("devices", kMaxDevices, hello.devices,
            [](ObjectReader& element, DeviceInfo& device) { read(element, device); });
  from.list("drivers", kMaxDrivers, hello.drivers,
            [](ObjectReader& element, DriverInfo& driver) { read(element, driver); });
  from.natural("host_budget_bytes", hello.host_budget_bytes);
  from.natural("image_budget_bytes", hello.image_budget_bytes);
  from.list("images", kMaxImages, hello.images, [](ObjectReader& element, ImageInfo& image) { read(element, image); });
  from.object("host_cache", [&hello](ObjectReader& cache) {
    cache.natural("max_bytes", hello.host_cache.max_bytes);
    cache.natural("shared_bytes", hello.host_cache.shared_bytes);
  });
  if (from.has("domain")) from.text("domain", hello.domain, kMaxDomain);
}

void read_model(ObjectReader& from, spec::ModelSpec& into) {
  const json::value* model = from.any("model");
  if (model == nullptr) return;
  auto parsed = spec::parse_model(json::serialize(*model), "", "");
  if (!parsed) return from.fail("model", parsed.error().message);
  into = *std::move(parsed);
  if (from.has("revision")) {
    std::uint64_t revision = 0;
    from.natural("revision", revision);
    if (revision < 2 || revision > std::numeric_limits<std::uint32_t>::max()) return from.fail("revision", "must be 2 to 2^32 - 1");
    into.name = base::at_revision(into.name, static_cast<std::uint32_t>(revision));
  }
  if (!into.resources.device_memory_bytes)
    from.fail("model", "spec.resources.deviceMemory: missing; a controller always sets it");
}

/// Of a replica that takes several: all of them, the first of which is `device`.
void read_devices(ObjectReader& from, const base::DeviceId& device, std::vector<base::DeviceId>& into) {
  if (!from.has("devices")) return;
  from.names("devices", spec::kMaxDevicesOfReplica, into);
  if (!from.ok()) return;
  const std::set<base::DeviceId> different(into.begin(), into.end());
  if (into.empty() || into.front() != device) from.fail("devices", "must begin with the one in device");
  else if (different.size() != into.size()) from.fail("devices", "names one twice");
}

void read(ObjectReader& from, StartInstance& start) {
  from.id("instance", start.instance);
  from.name("tenant", start.tenant);
  from.name("device", start.device);
  read_devices(from, start.device, start.devices);
  from.duration_ns("deadline_ns", start.deadline);
  read_image_id(from, "image", start.image, ImageField::may_be_none);
  read_model(from, start.model);
}

void read(ObjectReader& from, StopInstance& stop) {
  from.id("instance", stop.instance);
  from.duration_ns("grace_ns", stop.grace);
}

void read(ObjectReader& from, FreezeInstance& freeze) {
  from.id("instance", freeze.instance);
  from.duration_ns("deadline_ns", freeze.deadline);
}

void read(ObjectReader& from, WakeInstance& wake) {
  from.id("instance", wake.instance);
  from.duration_ns("deadline_ns", wake.deadline);
}

void read(ObjectReader& from, TakeSnapshot& take) {
  read_image_id(from, "image", take.image);
  from.id("instance", take.instance);
  from.name("device", take.device);
  read_devices(from, take.device, take.devices);
  from.duration_ns("deadline_ns", take.deadline);
  from.natural("max_bytes", take.max_bytes);
  read_model(from, take.model);
}

void read(ObjectReader& from, DropImage& drop) {
  read_image_id(from, "image", drop.image);
}

void read(ObjectReader& from, ForgetModel& forget) {
  from.name("tenant", forget.tenant);
  from.name("model", forget.model);
}

void read(ObjectReader& from, LoadAdapter& load) {
  from.id("instance", load.instance);
  from.name("adapter", load.adapter);
  from.duration_ns("deadline_ns", load.deadline);
}

void read(ObjectReader& from, UnloadAdapter& unload) {
  from.id("instance", unload.instance);
  from.name("adapter", unload.adapter);
}

void read(ObjectReader& from, AdapterLoaded& loaded) {
  from.id("instance", loaded.instance);
  from.name("adapter", loaded.adapter);
  from.text("error", loaded.error);
}

void read_phases(ObjectReader& from, std::vector<Phase>& into) {
  from.list("phases", kMaxPhases, into, [](ObjectReader& element, Phase& phase) { read(element, phase); });
}

void read(ObjectReader& from, InstanceReady& ready) {
  from.id("instance", ready.instance);
  from.text("socket_path", ready.socket_path);
  read_phases(from, ready.phases);
  from.choice("way", {Way::wake, Way::restore, Way::start}, ready.way);
  from.text("fell_back", ready.fell_back);
  from.natural("held_host_bytes", ready.held_host_bytes);
  from.flag("can_freeze", ready.can_freeze);
  from.flag("copied_weights", ready.copied_weights);
}

void read(ObjectReader& from, InstanceWeights& weights) {
  from.id("instance", weights.instance);
  from.object("phase", [&weights](ObjectReader& phase) {
    read(phase, weights.phase);
    if (phase.ok() && !weights.phase.bytes) phase.fail("read_bytes", "is missing");
  });
}

void read(ObjectReader& from, InstanceDown& down) {
  from.id("instance", down.instance);
  from.choice("reason",
              {DownReason::stopped, DownReason::start_failed, DownReason::start_timeout, DownReason::crashed,
               DownReason::out_of_memory, DownReason::freeze_failed, DownReason::wake_failed},
              down.reason);
  from.text("detail", down.detail);
  from.text("log_tail", down.log_tail, kMaxLogTail);
}

void read(ObjectReader& from, InstanceGone& gone) {
  from.id("instance", gone.instance);
}

void read(ObjectReader& from, InstanceStandby& standby) {
  from.id("instance", standby.instance);
  from.choice("driver", kDrivers, standby.driver);
  from.natural("held_host_bytes", standby.held_host_bytes);
  from.natural("held_device_bytes", standby.held_device_bytes);
  read_phases(from, standby.phases);
}

void read(ObjectReader& from, FreezeFailed& failed) {
  from.id("instance", failed.instance);
  from.text("reason", failed.reason);
  from.flag("still_ready", failed.still_ready);
}

void read(ObjectReader& from, SnapshotTaken& taken) {
  from.id("instance", taken.instance);
  from.object("image", [&taken](ObjectReader& image) { read(image, taken.image); });
  read_phases(from, taken.phases);
}

void read(ObjectReader& from, SnapshotFailed& failed) {
  from.id("instance", failed.instance);
  read_image_id(from, "image", failed.image);
  from.name("model", failed.model);
  from.text("reason", failed.reason);
}

void read(ObjectReader& from, HashFile& hash) {
  from.natural("id", hash.id);
  from.text("path", hash.path);
  from.flag("urgent", hash.urgent);
}

void read(ObjectReader& from, FileStamp& file) {
  from.text("path", file.path);
  from.natural("bytes", file.bytes);
  from.natural("mtime_ns", file.mtime_ns);
  from.natural("inode", file.inode);
}

void read(ObjectReader& from, FilesSeen& seen) {
  from.id("instance", seen.instance);
  from.list("files", kMaxFiles, seen.files, [](ObjectReader& element, FileStamp& file) { read(element, file); });
}

void read(ObjectReader& from, FilesChanged& changed) {
  from.id("instance", changed.instance);
  from.object("file", [&](ObjectReader& file) { read(file, changed.file); });
  from.text("detail", changed.detail);
  from.flag("gone", changed.gone);
}

void read(ObjectReader& from, FileHashed& hashed) {
  from.natural("id", hashed.id);
  from.object("file", [&](ObjectReader& file) { read(file, hashed.file); });
  from.text("sha256", hashed.sha256, kSha256Digits);
  from.text("error", hashed.error);
  if (from.ok() && hashed.sha256.empty() == hashed.error.empty()) from.fail("sha256", "must be there, or an error");
}

void read(ObjectReader& from, ImageGone& gone) {
  read_image_id(from, "image", gone.image);
  from.natural("freed_bytes", gone.freed_bytes);
  from.text("reason", gone.reason);
}

void read(ObjectReader& from, LookAtWeights& look) {
  from.text("source", look.source);
}

void read(ObjectReader& from, EvictWeights& evict) {
  from.text("source", evict.source);
  from.natural("keep_bytes", evict.keep_bytes);
}

void read(ObjectReader& from, WeightsState& state) {
  from.name("node", state.node);
  from.text("source", state.source);
  from.natural("weights_bytes", state.weights_bytes);
  from.natural("resident_bytes", state.resident_bytes);
  from.flag("resident_known", state.resident_known);
  from.natural("read_bytes_per_s", state.read_bytes_per_s);
}

void read(ObjectReader& from, WeightsEvicted& evicted) {
  from.name("node", evicted.node);
  from.text("source", evicted.source);
  from.natural("freed_bytes", evicted.freed_bytes);
  from.natural("resident_bytes", evicted.resident_bytes);
  from.text("why_left", evicted.why_left);
}

template <typename Message>
base::Result<Message> read_as(const char* type, const json::value& value) {
  ObjectReader from(value, type);
  std::string given;
  from.text("type", given);
  if (from.ok() && given != type) from.fail("type", fmt::format("is \"{}\"", spec::printable(given)));
  Message message;
  read(from, message);
  THAW_RETURN_IF_ERROR(from.finish());
  return message;
}

template <typename Variant>
base::Result<Variant> unknown_type(const json::value& value, const std::string& what) {
  ObjectReader from(value, what);
  std::string type;
  from.text("type", type);
  if (from.ok()) from.fail("type", fmt::format("\"{}\" is unknown", spec::printable(type)));
  return from.finish().error();
}

bool has_type(const json::value& value, const char* type) {
  const auto* object = value.if_object();
  const auto* given = object == nullptr ? nullptr : object->if_contains("type");
  return given != nullptr && given->is_string() && given->get_string() == type;
}

/// Reads the value as a Message if its type says so. True: `result` is it, or why it is refused.
template <typename Message, typename Variant>
bool try_read(const char* type, const json::value& value, base::Result<Variant>& result) {
  if (!has_type(value, type)) return false;
  auto message = read_as<Message>(type, value);
  result = message ? base::Result<Variant>(*std::move(message)) : base::Result<Variant>(message.error());
  return true;
}

}  // namespace

base::Result<NodeHello> parse_hello(std::string_view text) {
  THAW_ASSIGN_OR_RETURN(const json::value value, parse_json(text, "hello"));
  return read_as<NodeHello>(kHello, value);
}

base::Result<NodeCommand> parse_command(std::string_view text) {
  THAW_ASSIGN_OR_RETURN(const json::value value, parse_json(text, "command"));
  auto result = unknown_type<NodeCommand>(value, "command");
  (void)(try_read<StartInstance>(kStart, value, result) || try_read<StopInstance>(kStop, value, result) ||
         try_read<FreezeInstance>(kFreeze, value, result) || try_read<WakeInstance>(kWake, value, result) ||
         try_read<TakeSnapshot>(kSnapshot, value, result) || try_read<DropImage>(kDrop, value, result) ||
         try_read<HashFile>(kHash, value, result) || try_read<LookAtWeights>(kLook, value, result) ||
         try_read<EvictWeights>(kEvict, value, result) || try_read<ForgetModel>(kForget, value, result) ||
         try_read<LoadAdapter>(kLoadAdapter, value, result) || try_read<UnloadAdapter>(kUnloadAdapter, value, result));
  return result;
}

base::Result<NodeEvent> parse_event(std::string_view text) {
  THAW_ASSIGN_OR_RETURN(const json::value value, parse_json(text, "event"));
  auto result = unknown_type<NodeEvent>(value, "event");
  (void)(try_read<InstanceReady>(kReady, value, result) || try_read<InstanceWeights>(kWeights, value, result) ||
         try_read<InstanceDown>(kDown, value, result) ||
         try_read<InstanceGone>(kGone, value, result) || try_read<InstanceStandby>(kStandby, value, result) ||
         try_read<FreezeFailed>(kFreezeFailed, value, result) ||
         try_read<SnapshotTaken>(kSnapshotTaken, value, result) ||
         try_read<SnapshotFailed>(kSnapshotFailed, value, result) || try_read<ImageGone>(kImageGone, value, result) ||
         try_read<FilesSeen>(kFilesSeen, value, result) || try_read<FilesChanged>(kFilesChanged, value, result) ||
         try_read<FileHashed>(kFileHashed, value, result) || try_read<WeightsState>(kWeightsState, value, result) ||
         try_read<WeightsEvicted>(kEvicted, value, result) || try_read<AdapterLoaded>(kAdapterLoaded, value, result));
  return result;
}

}  // namespace thaw::wire
