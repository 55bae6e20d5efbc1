// Requests for adapters are requests of their base, and go where the adapter is loaded.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "control/rollout.h"
#include "control/routing.h"
#include "control/scheduler.h"

namespace thaw::control::test {
namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;
const base::ModelName kBase("base"), kOne("one"), kTwo("two");

/// A base with so many replicas, all ready.
class Service {
 public:
  explicit Service(std::uint32_t replicas) {
    wire::NodeHello hello;
    hello.node = base::NodeName("n");
    hello.devices.push_back({base::DeviceId("cuda0"), spec::DeviceKind::cuda, "", "", 1000 * kGiB, 1000 * kGiB});
    scheduler_.node_joined(hello, now_, actions_);
    spec_.name = kBase;
    spec_.resources.device = spec::DeviceKind::cuda;
    spec_.resources.device_memory_bytes = kGiB;
    spec_.scaling.min_replicas = replicas;
    spec_.scaling.max_replicas = std::max(replicas, 1U);
    spec_.scaling.target_concurrency = 64;
    scheduler_.model_deployed(spec_, now_, actions_);
    for (std::uint64_t id = 1; id <= replicas; ++id) ready(id);
    actions_.clear();
  }

  void ready(std::uint64_t id) {
    scheduler_.instance_ready({base::InstanceId(id), "", {}, wire::Way::start, "", 0, true}, now_, actions_);
  }
  std::uint64_t ask(const base::ModelName& adapter, std::uint64_t affinity = 0) {
    scheduler_.request_arrived({base::RequestId(++last_), kBase, base::TenantName("t"), affinity, {}, adapter}, now_,
                               actions_);
    std::uint64_t where = 0;
    for (const Action& action : actions_)
      if (const auto* dispatch = std::get_if<Dispatch>(&action)) where = dispatch->instance.value();
    return where;
  }
  void end() {
    now_ += base::Millis(1);
    scheduler_.request_ended(base::RequestId(last_), now_, actions_);
    actions_.clear();
  }

  Scheduler scheduler_;
  Actions actions_;
  spec::ModelSpec spec_;
  base::TimePoint now_ = base::TimePoint{} + base::Seconds(1000);
  std::uint64_t last_ = 0;
};

TEST(AdapterRequests, WakeTheirBaseFromZero) {
  Service service(0);
  EXPECT_EQ(service.ask(kOne), 0U);
  const auto* const start = service.actions_.empty() ? nullptr : std::get_if<Start>(&service.actions_.front());
  ASSERT_NE(start, nullptr);
  EXPECT_EQ(start->command.model.name, kBase);
  service.actions_.clear();
  service.ready(1);
  ASSERT_EQ(service.actions_.size(), 1U);
  EXPECT_TRUE(std::get<Dispatch>(service.actions_.front()).cold);
}

TEST(AdapterRequests, GoWhereTheAdapterIsLoaded) {
  Service service(8);
  service.scheduler_.adapter_loaded(base::InstanceId(5), kOne);
  for (std::uint64_t affinity = 0; affinity < 50; ++affinity) {
    EXPECT_EQ(service.ask(kOne, affinity), 5U) << affinity;
    service.end();
  }
}

TEST(AdapterRequests, SpillWhereItsReplicaHasMoreThanItsPart) {
  Service service(4);
  service.scheduler_.adapter_loaded(base::InstanceId(3), kOne);
  std::map<std::uint64_t, unsigned> load;
  for (unsigned n = 1; n <= 40; ++n) ++load[service.ask(kOne)];
  EXPECT_EQ(load.size(), 4U);
  EXPECT_LE(load[3], static_cast<unsigned>(1.25 * 40 / 4) + 1);
  for (const auto& [replica, count] : load) EXPECT_LE(count, load[3]) << replica;
}

TEST(AdapterRequests, OfOneAdapterMeetBeforeAnybodyHasLoadedIt) {
  Service service(8);
  std::set<std::uint64_t> places;
  for (int n = 0; n < 20; ++n) {
    places.insert(service.ask(kOne));
    service.end();
  }
  EXPECT_EQ(places.size(), 1U);
}

TEST(AdapterRequests, BeginAlikeOnlyWithTheSameAdapter) {
  EXPECT_EQ(affinity_with(7, {}), 7U);
  EXPECT_EQ(affinity_with(7, kOne), affinity_with(7, kOne));
  EXPECT_NE(affinity_with(7, kOne), affinity_with(7, kTwo));
  EXPECT_NE(affinity_with(7, kOne), affinity_with(8, kOne));
  EXPECT_NE(affinity_with(0, kOne), 0U);
}

TEST(AdapterRequests, AreNotSentToReplicasThatAreGone) {
  Service service(2);
  service.scheduler_.adapter_loaded(base::InstanceId(99), kOne);  // it ended meanwhile
  service.scheduler_.adapter_loaded(base::InstanceId(1), kOne);
  service.scheduler_.instance_down({base::InstanceId(1), wire::DownReason::crashed, "", ""}, service.now_,
                                   service.actions_);
  service.actions_.clear();
  EXPECT_EQ(service.ask(kOne), 2U);
}

TEST(Adapters, LlamaCppStartsAnewForAnyOtherList) {
  spec::ModelSpec a, b;
  b.adapters = {{"one", "/one.gguf", 1}};
  EXPECT_TRUE(engine_differs(a, b));
  EXPECT_TRUE(engine_differs(b, a)) << "their numbers are places in the list";
  a.adapters = b.adapters;
  a.adapters[0].bytes = 7;
  EXPECT_FALSE(engine_differs(a, b));
  a.adapters[0].path = "/other.gguf";
  EXPECT_TRUE(engine_differs(a, b));
}

TEST(Adapters, EnginesThatAreToldOfThemStartAnewForMoreOnly) {
  spec::ModelSpec a, b;
  a.engine = b.engine = spec::EngineKind::vllm;
  b.adapters = {{"one", "/one", 1}, {"two", "/two", 1}};
  EXPECT_TRUE(engine_differs(a, b));
  EXPECT_FALSE(engine_differs(b, a));
  a.adapters = {{"two", "/two", 1}};
  EXPECT_FALSE(engine_differs(b, a));
  a.adapters[0].path = "/elsewhere";
  EXPECT_TRUE(engine_differs(b, a));
}

}  // namespace
}  // namespace thaw::control::test
