#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/revision.h"
#include "spec/parse.h"
#include "spec/utf8.h"
#include "wire/message_form.h"
#include "wire/messages.h"
#include "wire/object_reader.h"

namespace thaw::wire {
namespace {

namespace json = boost::json;

std::uint64_t count_ns(base::Duration duration) {
  return static_cast<std::uint64_t>(duration.count());
}

/// What an engine printed may be any bytes and any length; a message must be UTF-8 and bounded, and must not be lost
/// for it. Keeps the last `max_bytes` and puts "?" for every byte that is no UTF-8.
std::string sendable(std::string text, std::size_t max_bytes) {
  if (text.size() > max_bytes) text.erase(0, text.size() - max_bytes);
  std::size_t at = 0;
  while ((at += spec::find_invalid_utf8(std::string_view(text).substr(at))) < text.size()) text[at] = '?';
  return text;
}

json::object write(const DeviceInfo& device) {
  return {{"id", device.id.str()}, {"kind", spec::to_string(device.kind)}, {"name", device.name},
          {"uuid", device.uuid},   {"total_bytes", device.total_bytes},    {"budget_bytes", device.budget_bytes}};
}

json::object write(const DriverInfo& driver) {
  return {{"driver", to_string(driver.driver)},
          {"device", spec::to_string(driver.device)},
          {"standby", driver.standby},
          {"snapshot", driver.snapshot},
          {"why_not", sendable(driver.why_not, ObjectReader::kMaxText)},
          {"opt_in", driver.opt_in},
          {"gangs", driver.gangs}};
}

json::object write(const ImageInfo& image) {
  return {{"image", image.image.str()}, {"model", image.model.str()},         {"driver", to_string(image.driver)},
          {"bytes", image.bytes},       {"device_bytes", image.device_bytes}, {"created_unix_s", image.created_unix_s}};
}

json::object write(const Phase& phase) {
  json::object o{{"name", phase.name}, {"start_ns", count_ns(phase.start)}, {"duration_ns", count_ns(phase.duration)}};
  if (phase.bytes) {
    o["read_bytes"] = phase.bytes->read;
    o["resident_bytes"] = phase.bytes->resident;
  }
  return o;
}

json::object write(const FileStamp& file) {
  return {{"path", file.path}, {"bytes", file.bytes}, {"mtime_ns", file.mtime_ns}, {"inode", file.inode}};
}

template <typename T>
json::array write_all(const std::vector<T>& values) {
  json::array array;
  for (const T& value : values) array.push_back(write(value));
  return array;
}

json::object write(const NodeHello& hello) {
  return {{"type", kHello},
          {"node", hello.node.str()},
          {"devices", write_all(hello.devices)},
          {"drivers", write_all(hello.drivers)},
          {"host_budget_bytes", hello.host_budget_bytes},
          {"image_budget_bytes", hello.image_budget_bytes},
          {"images", write_all(hello.images)},
          {"host_cache", {{"max_bytes", hello.host_cache.max_bytes}, {"shared_bytes", hello.host_cache.shared_bytes}}},
          {"domain", hello.domain}};
}

/// Null when a spec is no text; refused by the reader.
json::value write_model(const spec::ModelSpec& model) {
  json::error_code error;
  return json::parse(spec::to_json(model), error);
}

/// The spec's text has the model's name as users know it; of which revision its engines are, stands beside it.
json::object with_model(json::object message, const spec::ModelSpec& model) {
  message["model"] = write_model(model);
  if (const std::uint32_t revision = base::revision_part(model.name.str()); revision > 1) message["revision"] = revision;
  return message;
}

/// Only of a replica that takes several.
json::object with_devices(json::object message, const std::vector<base::DeviceId>& devices) {
  if (devices.empty()) return message;
  json::array& names = message["devices"].emplace_array();
  for (const base::DeviceId& device : devices) names.emplace_back(device.str());
  return message;
}

json::object write(const StartInstance& start) {
  return with_devices(with_model({{"type", kStart},
                                  {"instance", start.instance.value()},
                                  {"tenant", start.tenant.str()},
                                  {"device", start.device.str()},
                                  {"deadline_ns", count_ns(start.deadline)},
                                  {"image", start.image.str()}},
                                 start.model),
                      start.devices);
}

json::object write(const StopInstance& stop) {
  return {{"type", kStop}, {"instance", stop.instance.value()}, {"grace_ns", count_ns(stop.grace)}};
}

json::object write(const FreezeInstance& freeze) {
  return {{"type", kFreeze}, {"instance", freeze.instance.value()}, {"deadline_ns", count_ns(freeze.deadline)}};
}

json::object write(const WakeInstance& wake) {
  return {{"type", kWake}, {"instance", wake.instance.value()}, {"deadline_ns", count_ns(wake.deadline)}};
}

json::object write(const TakeSnapshot& take) {
  return with_devices(with_model({{"type", kSnapshot},
                                  {"image", take.image.str()},
                                  {"instance", take.instance.value()},
                                  {"device", take.device.str()},
                                  {"deadline_ns", count_ns(take.deadline)},
                                  {"max_bytes", take.max_bytes}},
                                 take.model),
                      take.devices);
}

json::object write(const DropImage& drop) {
  return {{"type", kDrop}, {"image", drop.image.str()}};
}

json::object write(const ForgetModel& forget) {
  return {{"type", kForget}, {"tenant", forget.tenant.str()}, {"model", forget.model.str()}};
}

json::object write(const LoadAdapter& load) {
  return {{"type", kLoadAdapter}, {"instance", load.instance.value()}, {"adapter", load.adapter.str()}, {"deadline_ns", count_ns(load.deadline)}};
}

json::object write(const UnloadAdapter& unload) {
  return {{"type", kUnloadAdapter}, {"instance", unload.instance.value()}, {"adapter", unload.adapter.str()}};
}

json::object write(const AdapterLoaded& loaded) {
  return {{"type", kAdapterLoaded},
          {"instance", loaded.instance.value()},
          {"adapter", loaded.adapter.str()},
          {"error", sendable(loaded.error, ObjectReader::kMaxText)}};
}

json::object write(const InstanceReady& ready) {
  return {{"type", kReady},
          {"instance", ready.instance.value()},
          {"socket_path", ready.socket_path},
          {"phases", write_all(ready.phases)},
          {"way", to_string(ready.way)},
          {"fell_back", sendable(ready.fell_back, ObjectReader::kMaxText)},
          {"held_host_bytes", ready.held_host_bytes},
          {"can_freeze", ready.can_freeze},
          {"copied_weights", ready.copied_weights}};
}

json::object write(const InstanceWeights& weights) {
  return {{"type", kWeights}, {"instance", weights.instance.value()}, {"phase", write(weights.phase)}};
}

json::object write(const InstanceDown& down) {
  return {{"type", kDown},
          {"instance", down.instance.value()},
          {"reason", to_string(down.reason)},
          {"detail", sendable(down.detail, ObjectReader::kMaxText)},
          {"log_tail", sendable(down.log_tail, kMaxLogTail)}};
}

json::object write(const InstanceGone& gone) {
  return {{"type", kGone}, {"instance", gone.instance.value()}};
}

json::object write(const InstanceStandby& standby) {
  return {{"type", kStandby},
          {"instance", standby.instance.value()},
          {"driver", to_string(standby.driver)},
          {"held_host_bytes", standby.held_host_bytes},
          {"held_device_bytes", standby.held_device_bytes},
          {"phases", write_all(standby.phases)}};
}

json::object write(const FreezeFailed& failed) {
  return {{"type", kFreezeFailed},
          {"instance", failed.instance.value()},
          {"reason", sendable(failed.reason, ObjectReader::kMaxText)},
          {"still_ready", failed.still_ready}};
}

json::object write(const SnapshotTaken& taken) {
  return {{"type", kSnapshotTaken},
          {"instance", taken.instance.value()},
          {"image", write(taken.image)},
          {"phases", write_all(taken.phases)}};
}

json::object write(const SnapshotFailed& failed) {
  return {{"type", kSnapshotFailed},
          {"instance", failed.instance.value()},
          {"image", failed.image.str()},
          {"model", failed.model.str()},
          {"reason", sendable(failed.reason, ObjectReader::kMaxText)}};
}

json::object write(const HashFile& hash) {
  return {{"type", kHash}, {"id", hash.id}, {"path", hash.path}, {"urgent", hash.urgent}};
}

json::object write(const FilesSeen& seen) {
  return {{"type", kFilesSeen}, {"instance", seen.instance.value()}, {"files", write_all(seen.files)}};
}

json::object write(const FilesChanged& changed) {
  return {{"type", kFilesChanged},
          {"instance", changed.instance.value()},
          {"file", write(changed.file)},
          {"detail", sendable(changed.detail, ObjectReader::kMaxText)},
          {"gone", changed.gone}};
}

json::object write(const FileHashed& hashed) {
  return {{"type", kFileHashed},
          {"id", hashed.id},
          {"file", write(hashed.file)},
          {"sha256", hashed.sha256},
          {"error", sendable(hashed.error, ObjectReader::kMaxText)}};
}

json::object write(const ImageGone& gone) {
  return {{"type", kImageGone},
          {"image", gone.image.str()},
          {"freed_bytes", gone.freed_bytes},
          {"reason", sendable(gone.reason, ObjectReader::kMaxText)}};
}

json::object write(const LookAtWeights& look) {
  return {{"type", kLook}, {"source", look.source}};
}

json::object write(const EvictWeights& evict) {
  return {{"type", kEvict}, {"source", evict.source}, {"keep_bytes", evict.keep_bytes}};
}

json::object write(const WeightsState& state) {
  return {{"type", kWeightsState},
          {"node", state.node.str()},
          {"source", state.source},
          {"weights_bytes", state.weights_bytes},
          {"resident_bytes", state.resident_bytes},
          {"resident_known", state.resident_known},
          {"read_bytes_per_s", state.read_bytes_per_s}};
}

json::object write(const WeightsEvicted& evicted) {
  return {{"type", kEvicted},
          {"node", evicted.node.str()},
          {"source", evicted.source},
          {"freed_bytes", evicted.freed_bytes},
          {"resident_bytes", evicted.resident_bytes},
          {"why_left", sendable(evicted.why_left, ObjectReader::kMaxText)}};
}

}  // namespace

std::string to_json(const NodeHello& hello) {
  return json::serialize(write(hello));
}

std::string to_json(const NodeCommand& command) {
  return std::visit([](const auto& message) { return json::serialize(write(message)); }, command);
}

std::string to_json(const NodeEvent& event) {
  return std::visit([](const auto& message) { return json::serialize(write(message)); }, event);
}

}  // namespace thaw::wire
