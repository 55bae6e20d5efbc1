// Models that do not fit together, all asked for all the time: nobody waits longer than turns.cpp promises, and the time
// goes into answers, not into starts.
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
constexpr unsigned kClientsPerModel = 3;

/// `models` models of which one fits, each with clients that ask again as soon as they are answered (after `pause`).
class Contest {
 public:
  Contest(unsigned models, base::Duration pause) : pause_(pause) {
    wire::NodeHello hello;
    hello.node = base::NodeName("n");
    hello.devices.resize(1);
    hello.devices[0].id = base::DeviceId("cpu0");
    hello.devices[0].budget_bytes = hello.devices[0].total_bytes = 100;
    scheduler_.node_joined(hello, now_, out_);
    for (unsigned m = 0; m < models; ++m) {
      spec::ModelSpec spec;
      spec.name = base::ModelName("m" + std::to_string(m));
      spec.resources.device_memory_bytes = 60;
      spec.scaling.target_concurrency = 2;
      spec.scaling.queue.timeout = base::Seconds(3600);
      scheduler_.model_deployed(spec, now_, out_);
      for (unsigned c = 0; c < kClientsPerModel; ++c) at(base::Duration{}, [this, spec] { ask(spec.name); });
    }
  }

  void play(base::Duration span) {
    const base::TimePoint end = now_ + span;
    while (now_ < end) {
      if (scheduler_.next_tick() <= events_.begin()->first) {
        now_ = scheduler_.next_tick();
        scheduler_.tick(now_, out_);
      } else {
        now_ = events_.begin()->first;
        const auto act = std::move(events_.begin()->second);
        events_.erase(events_.begin());
        act();
      }
      carry_out();
    }
  }

  base::Duration longest_wait{};
  std::map<base::ModelName, unsigned> answered;
  unsigned starts = 0;

 private:
  void at(base::Duration delay, std::function<void()> act) { events_.emplace(now_ + delay, std::move(act)); }

  void ask(const base::ModelName& model) {
    const base::RequestId id{next_++};
    asked_[id] = model;
    scheduler_.request_arrived({id, model, base::TenantName("t")}, now_, out_);
  }

  void carry_out() {
    Actions actions;
    actions.swap(out_);
    for (const Action& action : actions) {
      if (const auto* start = std::get_if<Start>(&action)) {
        ++starts;
        at(kStart, [this, id = start->command.instance] { scheduler_.instance_ready({id, "s", {}}, now_, out_); });
      } else if (const auto* stop = std::get_if<Stop>(&action)) {
        at(kStop, [this, id = stop->instance] { scheduler_.instance_gone({id}, now_, out_); });
      } else if (const auto* dispatch = std::get_if<Dispatch>(&action)) {
        longest_wait = std::max(longest_wait, dispatch->queued);
        at(kService, [this, id = dispatch->request] { answer(id); });
      } else {
        ADD_FAILURE() << std::get<Refuse>(action).message;
      }
    }
  }

  void answer(base::RequestId id) {
    const base::ModelName model = asked_.at(id);
    asked_.erase(id);
    ++answered[model];
    scheduler_.request_answering(id, now_);
    scheduler_.request_ended(id, now_, out_);
    at(pause_, [this, model] { ask(model); });
  }

  base::Duration pause_;
  Scheduler scheduler_;
  base::TimePoint now_ = base::TimePoint{} + base::Seconds(1);
  Actions out_;
  std::multimap<base::TimePoint, std::function<void()>> events_;
  std::map<base::RequestId, base::ModelName> asked_;
  std::uint64_t next_ = 1;
};

/// What turns.cpp promises the last of `models` in line, with what this contest's parts take.
base::Duration bound(unsigned models) {
  const Policy policy;
  return (2 * policy.turn_max + kStart + kService + kStop + kStart) * models;
}

class TurnsTest : public testing::TestWithParam<std::tuple<unsigned, int>> {};

}  // namespace

TEST_P(TurnsTest, nobody_starves_and_nobody_thrashes) {
  const auto [models, pause_ms] = GetParam();
  Contest contest(models, base::Millis(pause_ms));
  const base::Duration span = base::Seconds(600);
  contest.play(span);
  EXPECT_LE(contest.longest_wait, bound(models));
  // Much less in fact: a turn is 4 starts = 2 s, and each of the others has one.
  const base::Duration round = base::Seconds(2) + kService + kStop + kStart;
  EXPECT_LE(contest.longest_wait, round * (models + 1));
  ASSERT_EQ(contest.answered.size(), models);
  unsigned least = UINT32_MAX, most = 0;
  for (const auto& [model, count] : contest.answered) {
    least = std::min(least, count);
    most = std::max(most, count);
  }
  EXPECT_GT(2 * least, most) << "turns are not fair";
  // Every start is followed by most of a turn, except where everybody pauses for longer than a start takes.
  const auto swaps = static_cast<unsigned>(span / (kStop + kStart + kStart));
  EXPECT_LE(contest.starts, swaps);
}

INSTANTIATE_TEST_SUITE_P(Contests, TurnsTest,
                         testing::Combine(testing::Values(2U, 3U, 5U), testing::Values(0, 1, 150, 400)));

}  // namespace thaw::control
