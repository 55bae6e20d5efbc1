#include "wire/messages.h"

#include <fmt/format.h>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "spec/parse.h"
#include "spec/problems.h"
#include "spec/utf8.h"
#include "wire/object_reader.h"

namespace thaw::wire {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxDevices = 1'024;
constexpr std::size_t kMaxPhases = 64;
constexpr std::size_t kMaxLogTail = 2'048;

// Every message is one object whose "type" says which.
constexpr const char* kHello = "hello";
constexpr const char* kStart = "start_instance";
constexpr const char* kStop = "stop_instance";
constexpr const char* kReady = "instance_ready";
constexpr const char* kDown = "instance_down";
constexpr const char* kGone = "instance_gone";

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

// --- writing

json::object write(const DeviceInfo& device) {
  return {{"id", device.id.str()}, {"kind", spec::to_string(device.kind)}, {"name", device.name},
          {"uuid", device.uuid},   {"total_bytes", device.total_bytes},    {"budget_bytes", device.budget_bytes}};
}

json::object write(const Phase& phase) {
  return {{"name", phase.name}, {"start_ns", count_ns(phase.start)}, {"duration_ns", count_ns(phase.duration)}};
}

template <typename T>
json::array write_all(const std::vector<T>& values) {
  json::array array;
  for (const T& value : values) array.push_back(write(value));
  return array;
}

json::object write(const NodeHello& hello) {
  return {{"type", kHello}, {"node", hello.node.str()}, {"devices", write_all(hello.devices)}};
}

json::object write(const StartInstance& start) {
  json::error_code error;
  json::value model =
      json::parse(spec::to_json(start.model), error);  // null when a spec is no text; refused by the reader
  return {{"type", kStart},
          {"instance", start.instance.value()},
          {"device", start.device.str()},
          {"deadline_ns", count_ns(start.deadline)},
          {"model", std::move(model)}};
}

json::object write(const StopInstance& stop) {
  return {{"type", kStop}, {"instance", stop.instance.value()}, {"grace_ns", count_ns(stop.grace)}};
}

json::object write(const InstanceReady& ready) {
  return {{"type", kReady},
          {"instance", ready.instance.value()},
          {"socket_path", ready.socket_path},
          {"phases", write_all(ready.phases)}};
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

// --- reading

void read(ObjectReader& from, DeviceInfo& device) {
  from.name("id", device.id);
  from.choice("kind", {spec::DeviceKind::cpu, spec::DeviceKind::cuda}, device.kind);
  from.text("name", device.name);
  from.text("uuid", device.uuid);
  from.natural("total_bytes", device.total_bytes);
  from.natural("budget_bytes", device.budget_bytes);
  if (from.ok() && device.budget_bytes > device.total_bytes) from.fail("budget_bytes", "is more than total_bytes");
}

void read(ObjectReader& from, Phase& phase) {
  from.text("name", phase.name);
  from.duration_ns("start_ns", phase.start);
  from.duration_ns("duration_ns", phase.duration);
}

void read(ObjectReader& from, NodeHello& hello) {
  from.name("node", hello.node);
  from.list("devices", kMaxDevices, hello.devices,
            [](ObjectReader& element, DeviceInfo& device) { read(element, device); });
}

void read(ObjectReader& from, StartInstance& start) {
  from.id("instance", start.instance);
  from.name("device", start.device);
  from.duration_ns("deadline_ns", start.deadline);
  const json::value* model = from.any("model");
  if (model == nullptr) return;
  auto parsed = spec::parse_model(json::serialize(*model), "", "");
  if (!parsed) return from.fail("model", parsed.error().message);
  start.model = *std::move(parsed);
  if (!start.model.resources.device_memory_bytes)
    from.fail("model", "spec.resources.deviceMemory: missing; a controller always sets it");
}

void read(ObjectReader& from, StopInstance& stop) {
  from.id("instance", stop.instance);
  from.duration_ns("grace_ns", stop.grace);
}

void read(ObjectReader& from, InstanceReady& ready) {
  from.id("instance", ready.instance);
  from.text("socket_path", ready.socket_path);
  from.list("phases", kMaxPhases, ready.phases, [](ObjectReader& element, Phase& phase) { read(element, phase); });
}

void read(ObjectReader& from, InstanceDown& down) {
  from.id("instance", down.instance);
  from.choice("reason",
              {DownReason::stopped, DownReason::start_failed, DownReason::start_timeout, DownReason::crashed,
               DownReason::out_of_memory},
              down.reason);
  from.text("detail", down.detail);
  from.text("log_tail", down.log_tail, kMaxLogTail);
}

void read(ObjectReader& from, InstanceGone& gone) {
  from.id("instance", gone.instance);
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

const char* to_string(DownReason reason) {
  switch (reason) {
    case DownReason::stopped:
      return "stopped";
    case DownReason::start_failed:
      return "start_failed";
    case DownReason::start_timeout:
      return "start_timeout";
    case DownReason::crashed:
      return "crashed";
    case DownReason::out_of_memory:
      return "out_of_memory";
  }
  return "crashed";
}

std::string to_json(const NodeHello& hello) {
  return json::serialize(write(hello));
}

std::string to_json(const NodeCommand& command) {
  return std::visit([](const auto& message) { return json::serialize(write(message)); }, command);
}

std::string to_json(const NodeEvent& event) {
  return std::visit([](const auto& message) { return json::serialize(write(message)); }, event);
}

base::Result<NodeHello> parse_hello(std::string_view text) {
  THAW_ASSIGN_OR_RETURN(const json::value value, parse_json(text, "hello"));
  return read_as<NodeHello>(kHello, value);
}

base::Result<NodeCommand> parse_command(std::string_view text) {
  THAW_ASSIGN_OR_RETURN(const json::value value, parse_json(text, "command"));
  auto result = unknown_type<NodeCommand>(value, "command");
  (void)(try_read<StartInstance>(kStart, value, result) || try_read<StopInstance>(kStop, value, result));
  return result;
}

base::Result<NodeEvent> parse_event(std::string_view text) {
  THAW_ASSIGN_OR_RETURN(const json::value value, parse_json(text, "event"));
  auto result = unknown_type<NodeEvent>(value, "event");
  (void)(try_read<InstanceReady>(kReady, value, result) || try_read<InstanceDown>(kDown, value, result) ||
         try_read<InstanceGone>(kGone, value, result));
  return result;
}

}  // namespace thaw::wire
