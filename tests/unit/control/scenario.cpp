#include "unit/control/scenario.h"

#include <cctype>
#include <cmath>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/units.h"
#include "control/scheduler.h"
#include "unit/control/describe.h"
#include "unit/control/scenario_words.h"

namespace thaw::control::test {

namespace {

using base::TimePoint;

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
    else if (verb == "request") s.request_arrived(arrival_of(w), now_, actions_);
    else if (verb == "tenant") by_hand(s.set_tenant(tenant_of(w), now_, actions_));
    else if (verb == "forget") s.forget_tenant(base::TenantName(w.at(1)), now_, actions_);
    else if (verb == "answering") s.request_answering(request_of(w), now_);
    else if (verb == "error") s.request_engine_error(request_of(w));
    else if (verb == "end") s.request_ended(request_of(w), now_, actions_);
    else if (verb == "fail") s.request_failed(request_of(w), failure_of(w.at(2)), now_, actions_);
    else if (verb == "ready") ready(w);
    else if (verb == "weights") weights(w);
    else if (verb == "standby") standby(w);
    else if (verb == "freeze_failed") {
      s.freeze_failed({instance_of(w), rest_of(w, 3), w.at(2) == "ready" || (w[2] != "dead" && (fail("ready or dead"), false))}, now_, actions_);
    } else if (verb == "taken") taken(w);
    else if (verb == "not_taken") s.snapshot_failed({instance_of(w), {}, {}, rest_of(w, 2)}, now_, actions_);
    else if (verb == "image_gone") s.image_gone({base::ImageId(w.at(1)), 0, rest_of(w, 2)}, now_, actions_);
    else if (verb == "freeze") by_hand(s.model_frozen(base::ModelName(w.at(1)), now_, actions_));
    else if (verb == "wake") by_hand(s.model_woken(base::ModelName(w.at(1)), now_, actions_));
    else if (verb == "snapshot") by_hand(s.model_snapshot(base::ModelName(w.at(1)), now_, actions_));
    else if (verb == "drop") by_hand(s.image_dropped(base::ImageId(w.at(1)), now_, actions_));
    else if (verb == "down") down(w);
    else if (verb == "gone") s.instance_gone({instance_of(w)}, now_, actions_);
    else if (verb == "outdated") s.instance_outdated(instance_of(w), "file changed", now_, actions_);
    else fail("no event '" + verb + "'");
  }

  /// What an operator is told when it is refused shows among what happens.
  template <typename Result>
  void by_hand(const Result& result) {
    record(now_);
    if (!result.ok()) happened_.push_back({0, now_, "error " + result.error().message});
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
    scheduler_->instance_weights({instance_of(w), phase});
  }

  /// ready ID [way=WAY] [host=BYTES] [freezable=no] [fell_back=WORD]
  void ready(const Words& w) {
    wire::InstanceReady event{instance_of(w), "/run/x.sock", {}};
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

  /// standby ID [device=BYTES] [host=BYTES]
  void standby(const Words& w) {
    wire::InstanceStandby event;
    event.instance = instance_of(w);
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
    event.instance = instance_of(w);
    event.image.image = base::ImageId(w.at(2));
    event.image.bytes = bytes_of(w.at(3));
    scheduler_->snapshot_taken(event, now_, actions_);
  }

  void down(const Words& w) {
    wire::InstanceDown event;
    event.instance = instance_of(w);
    event.reason = down_reason_of(w.at(2));
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
