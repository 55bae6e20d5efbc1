#include "unit/control/scenario.h"

#include <cctype>
#include <cmath>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "base/units.h"
#include "control/scheduler.h"
#include "unit/control/describe.h"

namespace thaw::control::test {

namespace {

using Words = std::vector<std::string>;
using base::TimePoint;

/// A mistake in the file itself, or an expectation that did not hold.
[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }

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

spec::DeviceKind kind_of(const std::string& text) {
  if (text.rfind("cpu", 0) == 0) return spec::DeviceKind::cpu;
  if (text.rfind("cuda", 0) == 0) return spec::DeviceKind::cuda;
  fail("'" + text + "' is no device kind; cpu or cuda");
}

wire::DriverInfo driver_of(const std::string& name, spec::DeviceKind kind) {
  using wire::DriverKind;
  for (const DriverKind driver : {DriverKind::freezer, DriverKind::runsc, DriverKind::cuda, DriverKind::engine, DriverKind::criu}) {
    if (name != wire::to_string(driver)) continue;
    const bool images = driver == DriverKind::runsc || driver == DriverKind::criu;
    return {driver, kind, !images, images, ""};
  }
  fail("no driver '" + name + "'");
}

/// ID:MODEL:BYTES
wire::ImageInfo image_of(const std::string& text) {
  const std::size_t first = text.find(':'), second = text.find(':', first + 1);
  if (first == std::string::npos || second == std::string::npos) fail("'" + text + "' should be ID:MODEL:BYTES");
  wire::ImageInfo image;
  image.image = base::ImageId(text.substr(0, first));
  image.model = base::ModelName(text.substr(first + 1, second - first - 1));
  image.bytes = bytes_of(text.substr(second + 1));
  return image;
}

/// NODE DEVICE=BYTES... [host=BYTES] [disk=BYTES] [driver=NAME]... [image=ID:MODEL:BYTES]...
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

spec::Mode mode_of(const std::string& text) {
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

/// MODEL memory=BYTES [KEY=VALUE]...
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

/// `pattern` matches a beginning of `text`; "..." in it stands for anything.
bool matches(const std::string& pattern, const std::string& text) {
  std::size_t at = 0;
  for (std::size_t from = 0, part_number = 0; from <= pattern.size(); ++part_number) {
    const std::size_t dots = pattern.find("...", from);
    std::string part = pattern.substr(from, dots == std::string::npos ? dots : dots - from);
    if (part_number > 0) part.erase(0, part.find_first_not_of(' '));
    const std::size_t found = text.find(part, at);
    if (found == std::string::npos || (part_number == 0 && found != 0)) return false;
    at = found + part.size();
    if (dots == std::string::npos) break;
    from = dots + 3;
  }
  const std::string last = pattern.size() >= 3 ? pattern.substr(pattern.size() - 3) : "";
  return last == "..." || at == text.size() || std::isalnum(static_cast<unsigned char>(text[at])) == 0;
}

struct Line {
  std::size_t number = 0;
  TimePoint at{};
  std::string text;
};

class Player {
 public:
  explicit Player(std::string name) : name_(std::move(name)) {}

  void play(const std::string& text) {
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
      ++number_;
      take(line.substr(0, line.find('#')));
    }
    for (const Line& happened : happened_) {
      if (next_ == expected_.size()) report(number_, "nothing more", happened);
      const Line& wanted = expected_[next_++];
      if (wanted.at != happened.at || !matches(wanted.text, happened.text)) report(wanted.number, shown(wanted), happened);
    }
    if (next_ < expected_.size()) {
      fail(place(expected_[next_].number) + "expected " + shown(expected_[next_]) + ", but nothing more happened" + history());
    }
  }

  [[nodiscard]] std::string place(std::size_t number) const { return name_ + ":" + std::to_string(number) + ": "; }
  [[nodiscard]] std::size_t number() const { return number_; }

 private:
  void take(const std::string& line) {
    Words words = split(line);
    if (words.empty()) return;
    if (words[0] == "policy") {
      policy_ = policy_of(words);
      return;
    }
    if (line[0] != ' ' && line[0] != '\t' && words[0][0] >= '0' && words[0][0] <= '9') {
      const TimePoint at = start_ + duration_of(words[0]);
      if (at < now_) fail("time goes back");
      now_ = at;
      words.erase(words.begin());
      if (words.empty()) fail("nothing behind the time");
    }
    if (words[0] == "->") {
      std::string text;
      for (std::size_t n = 1; n < words.size(); ++n) text += (n > 1 ? " " : "") + words[n];
      expected_.push_back({number_, now_, text});
      if (scheduler_) tick_until_now();
      return;
    }
    if (!scheduler_) scheduler_ = std::make_unique<Scheduler>(policy_);
    tick_until_now();
    if (words[0] == "check") {
      check(words);
    } else {
      event(words);
      record(now_);
    }
  }

  void tick_until_now() {
    for (int ticks = 0; scheduler_->next_tick() <= now_; ++ticks) {
      if (ticks > 100'000) fail("ticks without end");
      const TimePoint at = scheduler_->next_tick();
      scheduler_->tick(at, actions_);
      record(at);
    }
  }

  void record(TimePoint at) {
    for (const Action& action : actions_) happened_.push_back({0, at, describe(action)});
    actions_.clear();
  }

  void event(const Words& w) {
    const std::string& verb = w[0];
    Scheduler& s = *scheduler_;
    if (verb == "node") s.node_joined(node_of(w), now_, actions_);
    else if (verb == "model") s.model_deployed(model_of(w), now_, actions_);
    else if (verb == "remove") s.model_removed(base::ModelName(w.at(1)), now_, actions_);
    else if (verb == "stop") s.model_stopped(base::ModelName(w.at(1)), w.size() > 2 && w[2] == "kill", now_, actions_);
    else if (verb == "drain" && w.size() == 1) s.drain(now_, actions_);
    else if (verb == "drain" || verb == "cordon" || verb == "uncordon") duty(w);
    else if (verb == "tick") s.tick(now_, actions_);
    else if (verb == "request") s.request_arrived(arrival(w), now_, actions_);
    else if (verb == "tenant") by_hand(s.set_tenant(tenant_of(w), now_, actions_));
    else if (verb == "forget") s.forget_tenant(base::TenantName(w.at(1)), now_, actions_);
    else if (verb == "answering") s.request_answering(request(w), now_);
    else if (verb == "error") s.request_engine_error(request(w));
    else if (verb == "end") s.request_ended(request(w), now_, actions_);
    else if (verb == "fail") s.request_failed(request(w), failure(w.at(2)), now_, actions_);
    else if (verb == "ready") ready(w);
    else if (verb == "weights") weights(w);
    else if (verb == "standby") standby(w);
    else if (verb == "freeze_failed") {
      s.freeze_failed({instance(w), rest_of(w, 3), w.at(2) == "ready" || (w[2] != "dead" && (fail("ready or dead"), false))}, now_, actions_);
    } else if (verb == "taken") taken(w);
    else if (verb == "not_taken") s.snapshot_failed({instance(w), {}, {}, rest_of(w, 2)}, now_, actions_);
    else if (verb == "image_gone") s.image_gone({base::ImageId(w.at(1)), 0, rest_of(w, 2)}, now_, actions_);
    else if (verb == "freeze") by_hand(s.model_frozen(base::ModelName(w.at(1)), now_, actions_));
    else if (verb == "wake") by_hand(s.model_woken(base::ModelName(w.at(1)), now_, actions_));
    else if (verb == "snapshot") by_hand(s.model_snapshot(base::ModelName(w.at(1)), now_, actions_));
    else if (verb == "drop") by_hand(s.image_dropped(base::ImageId(w.at(1)), now_, actions_));
    else if (verb == "down") down(w);
    else if (verb == "gone") s.instance_gone({instance(w)}, now_, actions_);
    else if (verb == "outdated") s.instance_outdated(instance(w), "file changed", now_, actions_);
    else fail("no event '" + verb + "'");
  }

  /// What an operator is told when it is refused shows among what happens.
  template <typename Result>
  void by_hand(const Result& result) {
    record(now_);
    if (!result.ok()) happened_.push_back({0, now_, "error " + result.error().message});
  }

  static std::string rest_of(const Words& w, std::size_t from) {
    std::string text;
    for (std::size_t n = from; n < w.size(); ++n) text += (n > from ? " " : "") + w[n];
    return text;
  }

  /// request ID NAME [TENANT] [affinity=NUMBER] [priority=PRIORITY]
  static Arrival arrival(const Words& w) {
    Arrival a{request(w), base::ModelName(w.at(2)), base::TenantName("t")};
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

  /// tenant NAME [weight=NUMBER] [devices=NUMBER] [seconds=NUMBER] [used=NUMBER] [max_priority=PRIORITY]
  static TenantPolicy tenant_of(const Words& w) {
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

  /// cordon|drain|uncordon NODE[/DEVICE]
  void duty(const Words& w) {
    const std::string where = w.at(1);
    const auto slash = where.find('/');
    const std::string device = slash == std::string::npos ? "" : where.substr(slash + 1);
    const Duty duty = w[0] == "drain" ? Duty::drained : w[0] == "cordon" ? Duty::cordoned : Duty::open;
    by_hand(scheduler_->set_duty(base::NodeName(where.substr(0, slash)), base::DeviceId(device), duty, now_, actions_));
  }

  /// weights ID read=BYTES resident=BYTES took=TIME
  void weights(const Words& w) {
    wire::Phase phase{"weights", {}, {}, wire::PhaseBytes{}};
    for (std::size_t n = 2; n < w.size(); ++n) {
      const auto [key, value] = key_value(w[n]);
      if (key == "read") phase.bytes->read = bytes_of(value);
      else if (key == "resident") phase.bytes->resident = bytes_of(value);
      else if (key == "took") phase.duration = duration_of(value);
      else fail("weights has no '" + key + "'");
    }
    scheduler_->instance_weights({instance(w), phase});
  }

  /// ready ID [way=WAY] [host=BYTES] [freezable=no] [fell_back=WORD]
  void ready(const Words& w) {
    wire::InstanceReady event{instance(w), "/run/x.sock", {}};
    event.can_freeze = true;
    for (std::size_t n = 2; n < w.size(); ++n) {
      const auto [key, value] = key_value(w[n]);
      if (key == "way") event.way = way_of(value);
      else if (key == "host") event.held_host_bytes = bytes_of(value);
      else if (key == "freezable") event.can_freeze = value != "no";
      else if (key == "copied") event.copied_weights = value == "yes";
      else if (key == "fell_back") event.fell_back = value;
      else fail("ready has no '" + key + "'");
    }
    scheduler_->instance_ready(event, now_, actions_);
  }

  static wire::Way way_of(const std::string& text) {
    for (const auto way : {wire::Way::wake, wire::Way::restore, wire::Way::start}) {
      if (text == wire::to_string(way)) return way;
    }
    fail("no way '" + text + "'; wake, restore or start");
  }

  /// standby ID [device=BYTES] [host=BYTES]
  void standby(const Words& w) {
    wire::InstanceStandby event;
    event.instance = instance(w);
    for (std::size_t n = 2; n < w.size(); ++n) {
      const auto [key, value] = key_value(w[n]);
      if (key == "device") event.held_device_bytes = bytes_of(value);
      else if (key == "host") event.held_host_bytes = bytes_of(value);
      else fail("standby has no '" + key + "'");
    }
    scheduler_->instance_standby(event, now_, actions_);
  }

  /// taken INSTANCE IMAGE BYTES
  void taken(const Words& w) {
    wire::SnapshotTaken event;
    event.instance = instance(w);
    event.image.image = base::ImageId(w.at(2));
    event.image.bytes = bytes_of(w.at(3));
    scheduler_->snapshot_taken(event, now_, actions_);
  }

  static base::RequestId request(const Words& w) { return base::RequestId(number_of(w.at(1))); }
  static base::InstanceId instance(const Words& w) { return base::InstanceId(number_of(w.at(1))); }

  static RequestFailure failure(const std::string& text) {
    if (text == "connect") return RequestFailure::connect;
    if (text == "stalled") return RequestFailure::stalled;
    if (text == "cut") return RequestFailure::cut;
    fail("no failure '" + text + "'; connect, stalled or cut");
  }

  void down(const Words& w) {
    wire::InstanceDown event;
    event.instance = instance(w);
    const std::string& reason = w.at(2);
    if (reason == "stopped") event.reason = wire::DownReason::stopped;
    else if (reason == "start_failed") event.reason = wire::DownReason::start_failed;
    else if (reason == "start_timeout") event.reason = wire::DownReason::start_timeout;
    else if (reason == "crashed") event.reason = wire::DownReason::crashed;
    else if (reason == "out_of_memory") event.reason = wire::DownReason::out_of_memory;
    else if (reason == "freeze_failed") event.reason = wire::DownReason::freeze_failed;
    else if (reason == "wake_failed") event.reason = wire::DownReason::wake_failed;
    else fail("no reason '" + reason + "'");
    for (std::size_t n = 3; n < w.size(); ++n) event.detail += (n > 3 ? " " : "") + w[n];
    scheduler_->instance_down(event, now_, actions_);
  }

  void check(const Words& w) {
    const std::string& what = w.at(1);
    if (what == "asleep") {
      if (!scheduler_->instances().empty()) fail("an instance is left" + history());
      if (scheduler_->requests_in_flight() != 0) fail("a request is left" + history());
      if (scheduler_->next_tick() != base::never()) fail("a timer is left" + history());
    } else if (what == "reserved") {
      check_reserved(w.at(2), bytes_of(w.at(3)));
    } else if (what == "host" || what == "disk") {
      check_node(w.at(2), what == "host", bytes_of(w.at(3)));
    } else if (what == "model") {
      check_model(w);
    } else if (what == "tenant") {
      check_tenant(w);
    } else {
      fail("no check '" + what + "'; asleep, reserved, host, disk, model or tenant");
    }
  }

  void check_reserved(const std::string& device, std::uint64_t bytes) {
    for (const DeviceView& v : scheduler_->devices()) {
      if (v.node.str() + "/" + v.info.id.str() != device) continue;
      if (v.reserved_bytes != bytes) fail(device + " has reserved " + base::format_bytes(v.reserved_bytes) + history());
      return;
    }
    fail("no device " + device);
  }

  void check_node(const std::string& node, bool host, std::uint64_t bytes) {
    for (const NodeView& v : scheduler_->nodes()) {
      if (v.node.str() != node) continue;
      const std::uint64_t is = host ? v.host_reserved_bytes : v.image_reserved_bytes;
      if (is != bytes) fail(node + " has reserved " + base::format_bytes(is) + history());
      return;
    }
    fail("no node " + node);
  }

  void check_tenant(const Words& w) {
    constexpr double kRounding = 1e-6;
    for (const TenantView& v : scheduler_->tenants(now_)) {
      if (v.policy.tenant.str() != w.at(2)) continue;
      for (std::size_t n = 3; n < w.size(); ++n) {
        const auto [key, value] = key_value(w[n]);
        const double is = key == "devices"  ? v.devices
                          : key == "busy"   ? v.used.busy
                          : key == "idle"   ? v.used.idle
                          : key == "moving" ? v.used.moving
                          : key == "today"  ? v.used_today_device_seconds
                                            : (fail("a tenant has no '" + key + "'"), 0);
        if (std::abs(is - std::stod(value)) > kRounding) fail(w[2] + " has " + key + "=" + std::to_string(is) + history());
      }
      return;
    }
    fail("no tenant " + w.at(2));
  }

  void check_model(const Words& w) {
    for (const ModelView& v : scheduler_->models()) {
      if (v.model.str() != w.at(2)) continue;
      for (std::size_t n = 3; n < w.size(); ++n) {
        const auto [key, value] = key_value(w[n]);
        const std::uint64_t is = key == "ready"            ? v.ready
                                 : key == "starting"       ? v.starting
                                 : key == "waking"         ? v.waking
                                 : key == "freezing"       ? v.freezing
                                 : key == "standby"        ? v.standby
                                 : key == "stopping"       ? v.stopping
                                 : key == "images"         ? v.images
                                 : key == "in_flight"      ? v.in_flight
                                 : key == "queued"         ? v.queued
                                 : key == "cold_starts"    ? v.cold_starts
                                 : key == "start_failures" ? v.start_failures
                                 : key == "evictions"      ? v.evictions
                                                           : (fail("a model has no '" + key + "'"), 0);
        if (is != number_of(value)) fail(w[2] + " has " + key + "=" + std::to_string(is) + history());
      }
      return;
    }
    fail("no model " + w.at(2));
  }

  [[nodiscard]] std::string shown(const Line& line) const {
    return written(line.at - start_) + " -> " + line.text;
  }
  [[nodiscard]] std::string history() const {
    std::string text = "\nwhat happened:";
    for (const Line& line : happened_) text += "\n  " + shown(line);
    return text;
  }
  [[noreturn]] void report(std::size_t number, const std::string& wanted, const Line& happened) {
    number_ = number;
    fail("expected " + wanted + "\nbut there was " + shown(happened) + history());
  }

  std::string name_;
  std::size_t number_ = 0;
  Policy policy_;
  std::unique_ptr<Scheduler> scheduler_;
  const TimePoint start_ = TimePoint{} + base::Seconds(1000);  ///< times count from an origin that is not the clock's
  TimePoint now_ = start_;
  Actions actions_;
  std::vector<Line> expected_;
  std::vector<Line> happened_;
  std::size_t next_ = 0;
};

}  // namespace

std::string play_scenario_text(const std::string& name, const std::string& text) {
  Player player(name);
  try {
    player.play(text);
  } catch (const std::exception& e) {
    return player.place(player.number()) + e.what();
  }
  return {};
}

std::string play_scenario(const std::string& path) {
  std::ifstream file(path);
  if (!file) return "cannot read " + path;
  std::stringstream text;
  text << file.rdbuf();
  return play_scenario_text(path, text.str());
}

}  // namespace thaw::control::test
