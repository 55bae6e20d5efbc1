// One node's page cache over model files: what is counted, what leaves and when, against a node that does as it is
// told, or fails to.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "control/host_cache.h"

namespace thaw::control {

namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;

/// A node that carries every action out at once.
class Node {
 public:
  explicit Node(wire::HostCacheInfo info) : book(info) {}

  HostCache book;
  base::TimePoint now{base::Seconds(1'000)};
  struct File {
    std::uint64_t bytes = 0, resident = 0;
    bool stuck = false;  ///< somebody else maps it
  };
  std::map<std::string, File> files;
  std::vector<wire::EvictWeights> evicted;
  std::function<void(const wire::EvictWeights&)> watch = [](const wire::EvictWeights&) {
  };  ///< before it is carried out

  void settle() {
    for (int rounds = 0; !actions_.empty(); ++rounds) {
      ASSERT_LT(rounds, 100) << "it never comes to rest";
      const CacheActions todo = std::exchange(actions_, {});
      for (const CacheAction& action : todo) std::visit([this](const auto& a) { perform(a); }, action);
    }
  }
  CacheActions& actions() { return actions_; }
  void pass(base::Duration time) {
    now += time;
    book.tick(now, actions_);
    settle();
  }

  static spec::ModelSpec spec(const std::string& name, const std::string& source = "", bool pin = false,
                              spec::DeviceKind device = spec::DeviceKind::cuda) {
    spec::ModelSpec spec;
    spec.name = base::ModelName(name);
    spec.source.path = source.empty() ? "/" + name : source;
    spec.cache.pin = pin;
    spec.resources.device = device;
    return spec;
  }
  void deploy(const spec::ModelSpec& spec, std::uint64_t bytes, std::uint64_t resident) {
    files[spec.source.path] = {bytes, resident};
    book.model_deployed(spec, actions_);
    settle();
  }
  void remove(const std::string& model) {
    book.model_removed(base::ModelName(model), now, actions_);
    settle();
  }
  void start(std::uint64_t id, const spec::ModelSpec& spec) {
    book.instance_starting(base::InstanceId(id), spec, now, actions_);
    settle();
    File& file = files[spec.source.path];
    file.resident = file.bytes;
  }
  void ready(std::uint64_t id, bool copied = false) {
    book.instance_ready(base::InstanceId(id), copied, now, actions_);
    settle();
  }
  void rest(std::uint64_t id) {
    book.instance_resting(base::InstanceId(id), now, actions_);
    settle();
  }
  void gone(std::uint64_t id) {
    book.instance_gone(base::InstanceId(id), now, actions_);
    settle();
  }
  void reserve(std::uint64_t bytes) {
    book.reserved(bytes, now, actions_);
    settle();
  }
  void use(const std::string& model) { book.requested(base::ModelName(model), now); }
  std::uint64_t resident(const std::string& model) { return files["/" + model].resident; }

 private:
  void perform(const wire::LookAtWeights& look) {
    const File& file = files[look.source];
    book.weights_state({{}, look.source, file.bytes, file.resident, true, 0}, now, actions_);
  }
  void perform(const wire::EvictWeights& evict) {
    evicted.push_back(evict);
    watch(evict);
    File& file = files[evict.source];
    const std::uint64_t leaves = file.stuck ? 0 : file.resident - std::min(evict.keep_bytes, file.resident);
    file.resident -= leaves;
    book.weights_evicted({{}, evict.source, leaves, file.resident, file.resident > evict.keep_bytes ? "somebody maps it" : ""}, now,
                         actions_);
  }

  CacheActions actions_;
};

wire::HostCacheInfo budget(std::uint64_t gib) {
  return {gib * kGiB, 1'000 * kGiB};
}

}  // namespace

TEST(HostCache, what_an_engine_has_copied_counts_and_makes_room) {
  Node node({1'000 * kGiB, 4 * kGiB});
  const auto cpu = [](const std::string& name) { return Node::spec(name, "", false, spec::DeviceKind::cpu); };
  node.deploy(cpu("copied"), kGiB, 0);
  node.deploy(cpu("mapped"), kGiB, 0);
  node.start(1, cpu("copied"));
  node.start(2, cpu("mapped"));
  node.reserve(3 * kGiB);  // the copies, a file while it is being copied, and a mapped file
  EXPECT_EQ(node.book.view().cached_bytes, 0U) << "both are in the device's books";
  node.ready(2);
  node.ready(1, true);
  node.reserve(2 * kGiB);
  EXPECT_EQ(node.book.view().cached_bytes, kGiB);
  EXPECT_TRUE(node.evicted.empty()) << "there is room for it";
  node.reserve(4 * kGiB);
  ASSERT_EQ(node.evicted.size(), 1U);
  EXPECT_EQ(node.evicted[0].source, "/copied") << "the other one is computed with";
  EXPECT_EQ(node.book.view().cached_bytes, 0U);

  node.rest(1);  // woken again, it still has its copies
  node.ready(1, true);
  node.gone(1);
  node.reserve(kGiB);
  node.gone(2);
  EXPECT_EQ(node.book.view().cached_bytes, kGiB) << "of the mapped one";
}

TEST(HostCache, keeps_the_most_used_when_the_budget_is_tight) {
  Node node(budget(3));
  node.deploy(Node::spec("often"), kGiB, 0);
  node.deploy(Node::spec("seldom"), kGiB, 0);
  node.deploy(Node::spec("once"), kGiB, 0);
  node.deploy(Node::spec("new"), kGiB, 0);
  for (int n = 0; n < 50; ++n) node.use("often");
  for (int n = 0; n < 5; ++n) node.use("seldom");
  node.use("once");
  std::uint64_t id = 1;
  for (const char* model : {"often", "once", "seldom"}) {
    node.start(id, Node::spec(model));
    node.ready(id);
    node.gone(id++);
  }
  EXPECT_TRUE(node.evicted.empty()) << "three fit";
  node.use("new");
  node.use("new");
  node.start(id, Node::spec("new"));
  EXPECT_EQ(node.resident("once"), 0U) << "room is made before the new one is read";
  EXPECT_EQ(node.resident("often") + node.resident("seldom"), 2 * kGiB);
  const HostCacheView view = node.book.view();
  EXPECT_EQ(view.cached_bytes, 3 * kGiB);
  EXPECT_EQ(view.evictions, 1U);
  EXPECT_EQ(view.evicted_bytes, kGiB);
}

TEST(HostCache, a_use_counts_half_after_an_hour) {
  Node node(budget(1));
  node.deploy(Node::spec("past"), kGiB, 0);
  node.deploy(Node::spec("present"), kGiB, 0);
  for (int n = 0; n < 7; ++n) node.use("past");
  node.now += std::chrono::hours(3);
  node.use("present");
  node.files["/past"].resident = kGiB / 2;
  node.files["/present"].resident = kGiB;
  node.deploy(Node::spec("past"), kGiB, kGiB / 2);
  node.deploy(Node::spec("present"), kGiB, kGiB);
  EXPECT_EQ(node.resident("past"), 0U);
  EXPECT_EQ(node.resident("present"), kGiB);
}

TEST(HostCache, what_a_replica_uses_is_never_evicted_and_leaves_after_it) {
  Node node(budget(1));
  node.deploy(Node::spec("big"), 4 * kGiB, 0);
  node.start(1, Node::spec("big"));
  node.ready(1);
  EXPECT_TRUE(node.evicted.empty());
  EXPECT_EQ(node.book.view().cached_bytes, 4 * kGiB);
  node.gone(1);
  EXPECT_EQ(node.resident("big"), kGiB) << "as much as fits stays: half a model is read in half the time";
}

TEST(HostCache, pinned_weights_stay_until_they_are_unpinned) {
  Node node(budget(1));
  node.deploy(Node::spec("pinned", "", true), 2 * kGiB, 2 * kGiB);
  node.deploy(Node::spec("other"), kGiB, kGiB);
  EXPECT_EQ(node.resident("pinned"), 2 * kGiB);
  EXPECT_EQ(node.resident("other"), 0U);
  node.deploy(Node::spec("pinned", "", false), 2 * kGiB, 2 * kGiB);
  EXPECT_EQ(node.resident("pinned"), kGiB);
}

TEST(HostCache, what_a_cpu_replica_maps_is_in_its_devices_books_and_not_counted_twice) {
  Node node({10 * kGiB, 4 * kGiB});
  const auto spec = Node::spec("m", "", false, spec::DeviceKind::cpu);
  node.deploy(spec, kGiB, 0);
  node.deploy(Node::spec("warm"), 2 * kGiB, 2 * kGiB);
  EXPECT_EQ(node.book.view().budget_bytes, 4 * kGiB);
  node.reserve(2 * kGiB);
  node.start(1, spec);
  node.ready(1);
  EXPECT_EQ(node.book.view().cached_bytes, 2 * kGiB) << "the other one's";
  EXPECT_EQ(node.book.view().budget_bytes, 2 * kGiB);
  EXPECT_EQ(node.book.entry("/m", node.now)->resident_bytes, kGiB) << "but it is shown";
  EXPECT_TRUE(node.evicted.empty());
  node.reserve(3 * kGiB);
  EXPECT_EQ(node.resident("warm"), kGiB) << "a start's reservation comes before what is kept for later";
  node.reserve(0);
  node.gone(1);
  EXPECT_EQ(node.book.view().cached_bytes, 2 * kGiB) << "they move over to where they count now";
}

TEST(HostCache, a_gpu_replica_in_standby_does_not_keep_its_files_in_memory) {
  Node node(budget(2));
  node.deploy(Node::spec("gpu"), kGiB, 0);
  node.start(1, Node::spec("gpu"));
  node.ready(1);
  node.deploy(Node::spec("other"), 2 * kGiB, 2 * kGiB);
  EXPECT_EQ(node.resident("gpu"), kGiB) << "in use";
  node.rest(1);
  EXPECT_EQ(node.book.entry("/gpu", node.now)->replicas, 1U) << "it is there";
  for (int n = 0; n < 9; ++n) node.use("other");
  node.start(2, Node::spec("other"));
  EXPECT_EQ(node.resident("gpu"), 0U) << "it is woken without them";
  node.ready(1);
  node.files["/gpu"].resident = kGiB;
  node.ready(2);
  node.gone(2);
  EXPECT_EQ(node.resident("gpu"), kGiB) << "in use again";
  EXPECT_LE(node.book.view().cached_bytes, 2 * kGiB);
}

TEST(HostCache, a_cpu_replica_in_standby_is_in_its_devices_books) {
  Node node({10 * kGiB, 4 * kGiB});
  const auto spec = Node::spec("m", "", false, spec::DeviceKind::cpu);
  node.deploy(spec, kGiB, 0);
  node.reserve(kGiB);
  node.start(1, spec);
  node.ready(1);
  node.files["/m"].resident = 0;
  node.reserve(kGiB / 8);
  node.rest(1);
  EXPECT_EQ(node.book.entry("/m", node.now)->resident_bytes, 0U) << "it is looked at when its pages have left";
  EXPECT_EQ(node.book.view().cached_bytes, 0U);
  EXPECT_EQ(node.book.view().budget_bytes, 4 * kGiB - kGiB / 8);
  node.rest(1);
  node.gone(1);
  EXPECT_TRUE(node.evicted.empty());
}

TEST(HostCache, models_of_one_source_share_its_weights) {
  Node node(budget(1));
  node.deploy(Node::spec("a", "/shared"), 2 * kGiB, 2 * kGiB);
  EXPECT_EQ(node.files["/shared"].resident, kGiB);
  node.deploy(Node::spec("b", "/shared", true), 2 * kGiB, 2 * kGiB);
  EXPECT_EQ(node.book.view().cached_bytes, 2 * kGiB) << "once, and pinned by one of them is pinned";
  node.remove("b");
  EXPECT_EQ(node.files["/shared"].resident, kGiB) << "a still has them, but does not pin them";
}

TEST(HostCache, what_no_model_has_any_more_leaves_when_the_last_replica_is_gone) {
  Node node(budget(10));
  node.deploy(Node::spec("m"), kGiB, 0);
  node.start(1, Node::spec("m"));
  node.remove("m");
  EXPECT_EQ(node.resident("m"), kGiB);
  node.gone(1);
  EXPECT_EQ(node.resident("m"), 0U);
  EXPECT_TRUE(node.book.sources().empty());
  EXPECT_EQ(node.book.view().cached_bytes, 0U);
}

TEST(HostCache, another_source_for_a_model_frees_the_old_ones) {
  Node node(budget(10));
  node.deploy(Node::spec("m", "/v1"), kGiB, kGiB);
  node.deploy(Node::spec("m", "/v2"), kGiB, 0);
  EXPECT_EQ(node.files["/v1"].resident, 0U);
  EXPECT_EQ(node.book.sources(), std::vector<std::string>{"/v2"});
}

TEST(HostCache, what_did_not_leave_stays_counted_and_is_tried_again_ever_less_often) {
  Node node(budget(1));
  node.deploy(Node::spec("m"), 2 * kGiB, 0);
  node.files["/m"].stuck = true;
  node.files["/m"].resident = 2 * kGiB;
  node.book.weights_state({{}, "/m", 2 * kGiB, 2 * kGiB, true, 0}, node.now, node.actions());
  node.settle();
  EXPECT_EQ(node.evicted.size(), 1U);
  EXPECT_EQ(node.book.view().cached_bytes, 2 * kGiB);
  EXPECT_EQ(node.book.view().failed_evictions, 1U);
  EXPECT_EQ(node.book.entry("/m", node.now)->why_left, "somebody maps it");
  EXPECT_EQ(node.book.next_tick(), node.now + HostCache::kFirstRetry);
  node.pass(HostCache::kFirstRetry);
  EXPECT_EQ(node.evicted.size(), 2U);
  EXPECT_EQ(node.book.next_tick(), node.now + 2 * HostCache::kFirstRetry);
  for (int n = 0; n < 10; ++n) node.pass(node.book.next_tick() - node.now);
  EXPECT_EQ(node.book.next_tick(), node.now + HostCache::kLastRetry);
  node.files["/m"].stuck = false;
  node.pass(HostCache::kLastRetry);
  EXPECT_EQ(node.resident("m"), kGiB);
  EXPECT_EQ(node.book.entry("/m", node.now)->why_left, "");
  EXPECT_EQ(node.book.next_tick(), base::never()) << "at rest nothing is polled";
}

TEST(HostCache, others_leave_in_place_of_what_does_not) {
  Node node(budget(2));
  node.deploy(Node::spec("stuck"), kGiB, kGiB);
  node.files["/stuck"].stuck = true;
  node.deploy(Node::spec("used"), kGiB, kGiB);
  node.use("used");
  node.deploy(Node::spec("third", "", true), kGiB, kGiB);
  EXPECT_EQ(node.resident("stuck"), kGiB);
  EXPECT_EQ(node.resident("used"), 0U);
}

TEST(HostCache, looks_again_while_a_gpu_replicas_weights_come_in) {
  Node node(budget(10));
  node.deploy(Node::spec("m"), 2 * kGiB, 0);
  node.start(1, Node::spec("m"));
  node.files["/m"].resident = kGiB;
  node.ready(1);
  EXPECT_EQ(node.book.view().cached_bytes, kGiB);
  EXPECT_EQ(node.book.next_tick(), node.now + HostCache::kLookAgain);
  node.files["/m"].resident = 2 * kGiB;
  node.pass(HostCache::kLookAgain);
  EXPECT_EQ(node.book.view().cached_bytes, 2 * kGiB);
  node.pass(HostCache::kLookAgain);
  EXPECT_EQ(node.book.next_tick(), base::never());
}

TEST(HostCache, a_budget_of_nothing_keeps_nothing_warm) {
  Node node(budget(0));
  node.deploy(Node::spec("m"), kGiB, 0);
  node.start(1, Node::spec("m"));
  node.ready(1);
  node.gone(1);
  EXPECT_EQ(node.resident("m"), 0U);
}

TEST(HostCache, answers_about_what_it_does_not_know_change_nothing) {
  Node node(budget(1));
  node.book.weights_state({{}, "/x", kGiB, kGiB, true, 0}, node.now, node.actions());
  node.book.weights_evicted({{}, "/x", 0, kGiB, "in use"}, node.now, node.actions());
  node.ready(7);
  node.gone(7);
  node.use("x");
  EXPECT_TRUE(node.actions().empty());
  EXPECT_EQ(node.book.view().cached_bytes, 0U);
}

namespace {

/// A random life, with the promises checked at every action.
class Life {
 public:
  explicit Life(std::uint64_t seed) : dice_(seed), node_({roll(12) * kUnit, roll(20) * kUnit}) {
    node_.watch = [this](const wire::EvictWeights& evict) {
      for (const auto& [id, spec] : running_) {
        if (resting_.count(id) == 0) {
          ASSERT_NE(spec.source.path, evict.source) << "in use by " << id;
        }
      }
      for (const auto& [name, spec] : specs_)
        ASSERT_FALSE(spec.source.path == evict.source && spec.cache.pin) << "pinned by " << name;
    };
  }

  void live(int events) {
    for (int n = 0; n < events; ++n) {
      step();
      check();
    }
    // At rest: the budget holds, unless what is left may not or does not leave.
    for (int n = 0; n < 40; ++n) node_.pass(HostCache::kLastRetry);
    const HostCacheView view = node_.book.view();
    if (view.cached_bytes <= view.budget_bytes) return;
    for (const std::string& source : node_.book.sources()) {
      const auto entry = *node_.book.entry(source, node_.now);
      ASSERT_TRUE(entry.pinned || entry.replicas > 0 || entry.resident_bytes.value_or(0) == 0 ||
                  node_.files[source].stuck)
          << source << " should have left";
    }
  }

 private:
  static constexpr std::uint64_t kUnit = 8 * kEvictionStep_bytes;
  std::uint64_t roll(std::uint64_t sides) { return dice_() % sides; }
  std::string model() { return "m" + std::to_string(roll(6)); }

  void step() {
    const std::string name = model();
    node_.now += base::Seconds(roll(600));
    switch (roll(8)) {
      case 0:
      case 1: {
        auto spec = Node::spec(name, "/s" + std::to_string(roll(5)), roll(5) == 0,
                               roll(2) == 0 ? spec::DeviceKind::cpu : spec::DeviceKind::cuda);
        auto& file = node_.files[spec.source.path];
        if (file.bytes == 0) file.bytes = (1 + roll(5)) * kUnit;
        specs_[name] = spec;
        node_.book.model_deployed(spec, node_.actions());
        break;
      }
      case 2:
        specs_.erase(name);
        node_.book.model_removed(base::ModelName(name), node_.now, node_.actions());
        break;
      case 3:
        if (specs_.contains(name)) {
          running_[next_id_] = specs_[name];
          node_.book.instance_starting(base::InstanceId(next_id_++), specs_[name], node_.now, node_.actions());
          node_.files[specs_[name].source.path].resident = node_.files[specs_[name].source.path].bytes;
        }
        break;
      case 4:
        if (!running_.empty()) {
          const auto& [id, spec] = *running_.begin();
          const bool rests = roll(3) == 0;
          // Those of a CPU are in use in standby too: what they cannot give up is charged to them.
          if (rests && spec.resources.device != spec::DeviceKind::cpu) resting_.insert(id);
          if (rests) {
            node_.book.instance_resting(base::InstanceId(id), node_.now, node_.actions());
          } else {
            resting_.erase(id);
            node_.book.instance_ready(base::InstanceId(id), false, node_.now, node_.actions());
          }
        }
        break;
      case 5:
        if (!running_.empty()) {
          const auto id = running_.begin()->first;
          running_.erase(running_.begin());
          resting_.erase(id);
          node_.book.instance_gone(base::InstanceId(id), node_.now, node_.actions());
        }
        break;
      case 6: {
        // Somebody else reads, maps or drops a file; nobody tells.
        auto& file = node_.files["/s" + std::to_string(roll(5))];
        file.stuck = roll(4) == 0;
        if (file.bytes > 0) file.resident = roll(file.bytes + 1);
        break;
      }
      default:
        node_.use(name);
        node_.book.reserved(roll(20) * kUnit, node_.now, node_.actions());
    }
    node_.settle();
    node_.pass(base::Seconds(roll(90)));
  }

  void check() {
    std::uint64_t cached_bytes = 0;
    for (const std::string& source : node_.book.sources()) {
      const auto entry = *node_.book.entry(source, node_.now);
      const bool wanted = std::any_of(specs_.begin(), specs_.end(),
                                      [&](const auto& spec) { return spec.second.source.path == source; });
      const auto starting = entry.replicas > 0;
      ASSERT_TRUE(wanted || starting) << source << " belongs to nobody";
      if (!entry.on_cpu && !starting) cached_bytes += entry.resident_bytes.value_or(0);
    }
    ASSERT_GE(node_.book.view().cached_bytes, cached_bytes);
    if (running_.empty()) {
      ASSERT_EQ(node_.book.view().cached_bytes, cached_bytes) << "the sum is the sum";
    }
  }

  std::mt19937_64 dice_;
  Node node_;
  std::map<std::string, spec::ModelSpec> specs_;
  std::map<std::uint64_t, spec::ModelSpec> running_;
  std::set<std::uint64_t> resting_;
  std::uint64_t next_id_ = 1;
};

}  // namespace

TEST(HostCache, keeps_its_promises_in_every_life) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Life life(seed);
    life.live(80);
    ASSERT_FALSE(::testing::Test::HasFatalFailure()) << "seed " << seed;
  }
}

}  // namespace thaw::control
