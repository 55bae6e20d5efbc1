// Models of several tenants and priorities that do not fit together, all asked for all the time, on few devices: who gets how much, that nobody starves, and
// that every second of a device is on exactly one account.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>

#include "control/scheduler.h"

namespace thaw::control {

namespace {

constexpr base::Duration kService = base::Millis(200);
constexpr base::Duration kStart = base::Millis(500);
constexpr base::Duration kStop = base::Millis(100);
constexpr std::uint64_t kDevice_bytes = 100;

struct Player {
  std::string model;
  std::string tenant = "t";
  std::uint32_t devices = 1;
  std::uint64_t bytes = 80;      ///< on each
  spec::Priority priority = spec::Priority::normal;
  unsigned clients = 3;
};

/// Clients that ask again as soon as they are answered, for a while.
class Party {
 public:
  Party(unsigned devices, const std::vector<Player>& players) {
    wire::NodeHello hello;
    hello.node = base::NodeName("n");
    for (unsigned d = 0; d < devices; ++d)
      hello.devices.push_back({base::DeviceId("cuda" + std::to_string(d)), spec::DeviceKind::cuda, "", "", kDevice_bytes, kDevice_bytes});
    scheduler.node_joined(hello, now_, out_);
    for (const Player& player : players) {
      spec::ModelSpec spec;
      spec.name = base::ModelName(player.model);
      spec.priority = player.priority;
      spec.resources.device = spec::DeviceKind::cuda;
      spec.resources.devices = player.devices;
      spec.resources.device_memory_bytes = player.bytes * player.devices;
      spec.scaling.target_concurrency = 2;
      spec.scaling.queue.timeout = base::Seconds(3600);
      scheduler.model_deployed(spec, now_, out_);
      for (unsigned c = 0; c < player.clients; ++c)
        at(base::Duration{}, [this, name = spec.name, tenant = base::TenantName(player.tenant)] { ask(name, tenant); });
    }
  }

  void weigh(const std::string& tenant, double weight) {
    TenantPolicy policy;
    policy.tenant = base::TenantName(tenant);
    policy.weight = weight;
    ASSERT_TRUE(scheduler.set_tenant(policy, now_, out_).ok());
  }

  void play(base::Duration span) {
    const base::TimePoint end = now_ + span;
    carry_out();
    while (now_ < end) {
      if (events_.empty() || scheduler.next_tick() <= events_.begin()->first) {
        now_ = scheduler.next_tick();
        scheduler.tick(now_, out_);
      } else {
        now_ = events_.begin()->first;
        const auto act = std::move(events_.begin()->second);
        events_.erase(events_.begin());
        act();
      }
      carry_out();
      for (const DeviceView& d : scheduler.devices()) ASSERT_LE(d.reserved_bytes, kDevice_bytes);
    }
  }

  [[nodiscard]] double used(const std::string& tenant) const {
    for (const TenantView& v : scheduler.tenants(now_)) {
      if (v.policy.tenant.str() == tenant) return v.used.all();
    }
    return 0;
  }
  [[nodiscard]] double used_by_all() const {
    double sum = 0;
    for (const TenantView& v : scheduler.tenants(now_)) sum += v.used.all();
    return sum;
  }
  /// Of all devices together, as the world saw it: from a start to its end.
  [[nodiscard]] double held() const {
    double sum = held_;
    for (const auto& [id, i] : instances_) sum += i.share * base::to_s(now_ - i.since);
    return sum;
  }

  Scheduler scheduler;
  std::map<std::string, base::Duration> longest_wait;
  std::map<std::string, unsigned> answered;
  double of_requests = 0;   ///< device-seconds that they were said to have had

 private:
  struct Instance {
    double share = 0;
    base::TimePoint since{};
  };
  struct Asked {
    base::ModelName model;
    base::TenantName tenant;
  };

  void at(base::Duration delay, std::function<void()> act) { events_.emplace(now_ + delay, std::move(act)); }

  void ask(const base::ModelName& model, const base::TenantName& tenant) {
    const base::RequestId id{next_++};
    asked_[id] = {model, tenant};
    scheduler.request_arrived({id, model, tenant}, now_, out_);
  }

  void carry_out() {
    Actions actions;
    actions.swap(out_);
    for (const Action& action : actions) {
      if (const auto* start = std::get_if<Start>(&action)) {
        const base::InstanceId id = start->command.instance;
        instances_[id] = {static_cast<double>(*start->command.model.resources.device_memory_bytes) / kDevice_bytes, now_};
        at(kStart, [this, id] { scheduler.instance_ready({id, "s", {}}, now_, out_); });
      } else if (const auto* stop = std::get_if<Stop>(&action)) {
        at(kStop, [this, id = stop->instance] {
          held_ += instances_.at(id).share * base::to_s(now_ - instances_.at(id).since);
          instances_.erase(id);
          scheduler.instance_gone({id}, now_, out_);
        });
      } else if (const auto* dispatch = std::get_if<Dispatch>(&action)) {
        base::Duration& longest = longest_wait[asked_.at(dispatch->request).model.str()];
        longest = std::max(longest, dispatch->queued);
        at(kService, [this, id = dispatch->request] { answer(id); });
      } else {
        ADD_FAILURE() << std::get<Refuse>(action).message;
      }
    }
  }

  void answer(base::RequestId id) {
    const Asked asked = asked_.at(id);
    asked_.erase(id);
    ++answered[asked.model.str()];
    scheduler.request_answering(id, now_);
    of_requests += scheduler.device_seconds(id, now_);
    scheduler.request_ended(id, now_, out_);
    at(base::Duration(1), [this, asked] { ask(asked.model, asked.tenant); });
  }

  base::TimePoint now_ = base::TimePoint{} + base::Seconds(1);
  Actions out_;
  std::multimap<base::TimePoint, std::function<void()>> events_;
  std::map<base::RequestId, Asked> asked_;
  std::map<base::InstanceId, Instance> instances_;
  double held_ = 0;
  std::uint64_t next_ = 1;
};

/// What turns.cpp promises whoever is last of so many in line.
base::Duration bound(unsigned others) {
  const Policy policy;
  return base::Seconds(60) + (2 * policy.turn_max + kStart + kService + kStop + kStart) * (others + 1);
}

constexpr base::Duration kSpan = base::Seconds(900);

}  // namespace

TEST(Gangs, are_not_starved_by_a_stream_of_small_models) {
  Party party(2, {{"a"}, {"b"}, {"c"}, {"d"}, {"gang", "t", 2}});
  party.play(kSpan);
  EXPECT_LE(party.longest_wait["gang"], bound(4));
  EXPECT_GT(party.answered["gang"], 100U);
  for (const char* small : {"a", "b", "c", "d"}) EXPECT_LE(party.longest_wait[small], bound(4)) << small;
}

TEST(Gangs, of_different_sizes_take_turns) {
  Party party(4, {{"two", "t", 2}, {"four", "t", 4}, {"three", "t", 3}, {"one"}});
  party.play(kSpan);
  for (const char* model : {"one", "two", "three", "four"}) {
    EXPECT_LE(party.longest_wait[model], bound(3)) << model;
    EXPECT_GT(party.answered[model], 100U) << model;
  }
}

TEST(Priorities, give_more_and_starve_nobody) {
  Party party(1, {{"low", "t", 1, 80, spec::Priority::low}, {"normal"}, {"high", "t", 1, 80, spec::Priority::high}});
  party.play(kSpan);
  EXPECT_GT(party.answered["high"], party.answered["normal"]);
  EXPECT_GT(party.answered["normal"], party.answered["low"]);
  EXPECT_GT(party.answered["low"], 20U);
  EXPECT_LE(party.longest_wait["low"], bound(2));
}

TEST(Shares, follow_the_weights) {
  Party party(2, {{"a1", "a"}, {"a2", "a"}, {"a3", "a"}, {"b1", "b"}, {"b2", "b"}, {"b3", "b"}});
  party.weigh("a", 3);
  party.play(kSpan);
  EXPECT_GT(party.used("a"), 1.7 * party.used("b"));
  EXPECT_LT(party.used("a"), 5 * party.used("b"));
  for (const auto& [model, wait] : party.longest_wait) EXPECT_LE(wait, bound(5)) << model;
}

TEST(Shares, are_equal_however_many_models_one_tenant_asks_for) {
  Party party(1, {{"a1", "a"}, {"a2", "a"}, {"a3", "a"}, {"a4", "a"}, {"a5", "a"}, {"b1", "b"}});
  party.play(kSpan);
  EXPECT_LT(party.used("a"), 3 * party.used("b"));  // without shares it were 5 times as much
}

TEST(Accounts, have_every_second_of_a_device_once) {
  Party party(2, {{"a", "a", 1, 30}, {"b", "b", 1, 50}, {"c", "a", 2, 60}, {"a", "c", 1, 30}, {"b", "a", 1, 50}});
  party.play(base::Seconds(120));
  EXPECT_NEAR(party.used_by_all(), party.held(), 1e-6 * party.held());
  double busy = 0;
  for (const TenantView& v : party.scheduler.tenants(base::TimePoint{} + base::Seconds(121))) busy += v.used.busy;
  EXPECT_GT(party.of_requests, 10);
  EXPECT_LE(party.of_requests, busy + 1);
}

TEST(Accounts, refuse_policies_that_make_no_sense) {
  Scheduler scheduler;
  Actions out;
  const auto set = [&](auto change) {
    TenantPolicy policy;
    policy.tenant = base::TenantName("t");
    change(policy);
    const base::Status status = scheduler.set_tenant(policy, base::TimePoint{} + base::Seconds(1), out);
    return status.ok() ? "" : status.error().message;
  };
  EXPECT_EQ(set([](TenantPolicy&) {}), "");
  EXPECT_NE(set([](TenantPolicy& p) { p.weight = 0; }).find("weight"), std::string::npos);
  EXPECT_NE(set([](TenantPolicy& p) { p.weight = std::numeric_limits<double>::quiet_NaN(); }).find("weight"), std::string::npos);
  EXPECT_NE(set([](TenantPolicy& p) { p.max_devices = 0; }).find("devices"), std::string::npos);
  EXPECT_NE(set([](TenantPolicy& p) { p.max_device_seconds_per_day = -1; }).find("device-seconds"), std::string::npos);
  EXPECT_NE(set([](TenantPolicy& p) { p.used_today_device_seconds = -1; }).find("today"), std::string::npos);
  EXPECT_NE(set([](TenantPolicy& p) { p.tenant = {}; }).find("name"), std::string::npos);
}

}  // namespace thaw::control
