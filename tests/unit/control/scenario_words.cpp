#include "unit/control/scenario_words.h"

#include <sstream>
#include <stdexcept>

#include "base/units.h"

namespace thaw::control::test {

void fail(const std::string& what) { throw std::runtime_error(what); }

Words split(const std::string& line) {
  std::istringstream stream(line);
  Words words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

base::Duration duration_of(const std::string& text) {
  auto parsed = base::parse_duration(text);
  if (!parsed) fail(parsed.error().message);
  return *parsed;
}

std::uint64_t bytes_of(const std::string& text) {
  auto parsed = base::parse_bytes(text);
  if (!parsed) fail(parsed.error().message);
  return *parsed;
}

std::uint32_t number_of(const std::string& text) {
  std::size_t used = 0;
  const unsigned long value = std::stoul(text, &used);
  if (used != text.size()) fail("'" + text + "' is no number");
  return static_cast<std::uint32_t>(value);
}

std::pair<std::string, std::string> key_value(const std::string& word) {
  const std::size_t at = word.find('=');
  if (at == std::string::npos) fail("'" + word + "' should be KEY=VALUE");
  return {word.substr(0, at), word.substr(at + 1)};
}

static spec::DeviceKind kind_of(const std::string& text) {
  if (text.rfind("cpu", 0) == 0) return spec::DeviceKind::cpu;
  if (text.rfind("cuda", 0) == 0) return spec::DeviceKind::cuda;
  fail("'" + text + "' is no device kind; cpu or cuda");
}

static wire::DriverInfo driver_of(const std::string& name, spec::DeviceKind kind) {
  using wire::DriverKind;
  for (const DriverKind driver : {DriverKind::freezer, DriverKind::runsc, DriverKind::cuda, DriverKind::engine, DriverKind::criu}) {
    if (name != wire::to_string(driver)) continue;
    const bool images = driver == DriverKind::runsc || driver == DriverKind::criu;
    return {driver, kind, !images, images, ""};
  }
  fail("no driver '" + name + "'");
}

/// ID:MODEL:BYTES
static wire::ImageInfo image_of(const std::string& text) {
  const std::size_t first = text.find(':'), second = text.find(':', first + 1);
  if (first == std::string::npos || second == std::string::npos) fail("'" + text + "' should be ID:MODEL:BYTES");
  wire::ImageInfo image;
  image.image = base::ImageId(text.substr(0, first));
  image.model = base::ModelName(text.substr(first + 1, second - first - 1));
  image.bytes = bytes_of(text.substr(second + 1));
  return image;
}

wire::NodeHello node_of(const Words& words) {
  wire::NodeHello hello;
  hello.node = base::NodeName(words.at(1));
  for (std::size_t n = 2; n < words.size(); ++n) {
    const auto [id, bytes] = key_value(words[n]);
    if (id == "host") hello.host_budget_bytes = bytes_of(bytes);
    else if (id == "disk") hello.image_budget_bytes = bytes_of(bytes);
    else if (id == "image") hello.images.push_back(image_of(bytes));
    else if (id == "domain") hello.domain = bytes;
    if (id == "driver") {
      for (const auto kind : {spec::DeviceKind::cpu, spec::DeviceKind::cuda}) hello.drivers.push_back(driver_of(bytes, kind));
    }
    if (id == "host" || id == "disk" || id == "image" || id == "driver" || id == "domain") continue;
    wire::DeviceInfo info;
    info.id = base::DeviceId(id);
    info.kind = kind_of(id);
    info.total_bytes = info.budget_bytes = bytes_of(bytes);
    hello.devices.push_back(info);
  }
  return hello;
}

static spec::Mode mode_of(const std::string& text) {
  for (const auto mode : {spec::Mode::automatic, spec::Mode::never, spec::Mode::always}) {
    if (text == spec::to_string(mode)) return mode;
  }
  fail("no mode '" + text + "'; auto, never or always");
}

spec::Priority priority_of(const std::string& text) {
  for (const auto priority : {spec::Priority::low, spec::Priority::normal, spec::Priority::high}) {
    if (text == spec::to_string(priority)) return priority;
  }
  fail("no priority '" + text + "'; low, normal or high");
}

spec::ModelSpec model_of(const Words& words) {
  spec::ModelSpec spec;
  spec.name = base::ModelName(words.at(1));
  spec.source.path = "/models/" + words[1] + ".gguf";
  spec.scaling.idle_timeout = base::Seconds(60);
  for (std::size_t n = 2; n < words.size(); ++n) {
    const auto [key, value] = key_value(words[n]);
    if (key == "memory") spec.resources.device_memory_bytes = bytes_of(value);
    else if (key == "loading") spec.resources.loading_memory_bytes = bytes_of(value);
    else if (key == "device") spec.resources.device = kind_of(value);
    else if (key == "devices") spec.resources.devices = number_of(value);
    else if (key == "priority") spec.priority = priority_of(value);
    else if (key == "min") spec.scaling.min_replicas = number_of(value);
    else if (key == "max") spec.scaling.max_replicas = number_of(value);
    else if (key == "target") spec.scaling.target_concurrency = number_of(value);
    else if (key == "idle") spec.scaling.idle_timeout = duration_of(value);
    else if (key == "queue") spec.scaling.queue.max_length = number_of(value);
    else if (key == "queue_timeout") spec.scaling.queue.timeout = duration_of(value);
    else if (key == "args") spec.args = {value};
    else if (key == "standby") spec.standby.mode = mode_of(value);
    else if (key == "standby_timeout") spec.standby.timeout = duration_of(value);
    else if (key == "snapshot") spec.snapshot.mode = mode_of(value);
    else if (key == "start_deadline") spec.start_deadline = duration_of(value);
    else fail("a model has no '" + key + "'");
  }
  return spec;
}

Policy policy_of(const Words& words) {
  Policy policy;
  for (std::size_t n = 1; n < words.size(); ++n) {
    const auto [key, value] = key_value(words[n]);
    if (key == "max_attempts") policy.max_attempts = number_of(value);
    else if (key == "backoff_first") policy.backoff_first = duration_of(value);
    else if (key == "backoff_max") policy.backoff_max = duration_of(value);
    else if (key == "turn_min") policy.turn_min = duration_of(value);
    else if (key == "turn_max") policy.turn_max = duration_of(value);
    else if (key == "outlier_strikes") policy.outlier_strikes = number_of(value);
    else if (key == "look_everywhere_up_to") policy.look_everywhere_up_to = number_of(value);
    else fail("the policy has no '" + key + "' here");
  }
  return policy;
}

std::string rest_of(const Words& w, std::size_t from) {
  std::string text;
  for (std::size_t n = from; n < w.size(); ++n) text += (n > from ? " " : "") + w[n];
  return text;
}

base::RequestId request_of(const Words& w) { return base::RequestId(number_of(w.at(1))); }
base::InstanceId instance_of(const Words& w) { return base::InstanceId(number_of(w.at(1))); }

RequestFailure failure_of(const std::string& text) {
  if (text == "connect") return RequestFailure::connect;
  if (text == "stalled") return RequestFailure::stalled;
  if (text == "cut") return RequestFailure::cut;
  fail("no failure '" + text + "'; connect, stalled or cut");
}

Arrival arrival_of(const Words& w) {
  Arrival a{request_of(w), base::ModelName(w.at(2)), base::TenantName("t")};
  for (std::size_t n = 3; n < w.size(); ++n) {
    if (n == 3 && w[n].find('=') == std::string::npos) {
      a.tenant = base::TenantName(w[n]);
      continue;
    }
    const auto [key, value] = key_value(w[n]);
    if (key == "affinity") a.affinity = std::stoull(value);
    else if (key == "priority") a.priority = priority_of(value);
    else fail("a request has no '" + key + "'");
  }
  return a;
}

TenantPolicy tenant_of(const Words& w) {
  TenantPolicy policy;
  policy.tenant = base::TenantName(w.at(1));
  for (std::size_t n = 2; n < w.size(); ++n) {
    const auto [key, value] = key_value(w[n]);
    if (key == "weight") policy.weight = std::stod(value);
    else if (key == "devices") policy.max_devices = std::stod(value);
    else if (key == "seconds") policy.max_device_seconds_per_day = std::stod(value);
    else if (key == "used") policy.used_today_device_seconds = std::stod(value);
    else if (key == "max_priority") policy.max_priority = priority_of(value);
    else fail("a tenant has no '" + key + "'");
  }
  return policy;
}

wire::Way way_of(const std::string& text) {
  for (const auto way : {wire::Way::wake, wire::Way::restore, wire::Way::start}) {
    if (text == wire::to_string(way)) return way;
  }
  fail("no way '" + text + "'; wake, restore or start");
}

wire::DownReason down_reason_of(const std::string& text) {
  using wire::DownReason;
  for (const auto reason : {DownReason::stopped, DownReason::start_failed, DownReason::start_timeout, DownReason::crashed, DownReason::out_of_memory,
                            DownReason::freeze_failed, DownReason::wake_failed}) {
    if (text == wire::to_string(reason)) return reason;
  }
  fail("no reason '" + text + "'");
}

}  // namespace thaw::control::test
