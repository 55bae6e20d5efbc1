// What happened to models, and the names under which they are found.
#include "controller/model_events.h"

#include <gtest/gtest.h>

#include "unit/controller/harness.h"

namespace thaw::controller::test {
namespace {

using Kind = ModelEvent::Kind;

class ModelEventsTest : public ControllerTest {
 protected:
  [[nodiscard]] std::string happened(const std::string& model) const {
    std::string text;
    for (const ModelEvent& event : controller_->events().since(base::ModelName(model), 0))
      text += (text.empty() ? "" : " ") + std::string(to_string(event.kind)) + "/" + to_string(event.cause.rule);
    return text;
  }
};

TEST_F(ModelEventsTest, SayWhatHappenedAndOnWhoseAccount) {
  play([&]() -> net::Task<void> {
    controller_->deploy(entry("m"));
    Ticket& ticket = arrive("m");
    const auto starting = controller_->events().since(base::ModelName("m"), 0).back();
    EXPECT_EQ(starting.kind, Kind::starting);
    EXPECT_EQ(starting.cause.rule, control::Rule::request);
    EXPECT_EQ(starting.cause.request, ticket.id());
    EXPECT_EQ(starting.node.str(), "node");
    EXPECT_EQ(starting.device, "cpu0");
    EXPECT_EQ(starting.reason, "first request");
    EXPECT_GT(starting.unix_ms, 0);
    controller_->node_event(wire::InstanceDown{starting.replica, wire::DownReason::start_failed, "exit status 1", ""});
    controller_->node_event(wire::InstanceGone{starting.replica});
    EXPECT_EQ(happened("m"), "deployed/none starting/request failed/failure gone/none");
    EXPECT_EQ(controller_->events().since(base::ModelName("m"), starting.seq).front().reason, "start_failed: exit status 1");
    controller_->ended(ticket);
    co_return;
  });
}

TEST_F(ModelEventsTest, AnEvictionNamesTheRequestThatWantedTheRoom) {
  play(
      [&]() -> net::Task<void> {
        controller_->deploy(entry("one"));
        controller_->deploy(entry("two"));
        Ticket& first = arrive("one");
        const auto replica = controller_->events().since(base::ModelName("one"), 0).back().replica;
        controller_->node_event(wire::InstanceReady{replica, "/run/s", {}});
        controller_->answering(first);
        controller_->ended(first);
        Ticket& second = arrive("two");
        const ModelEvent stopping = controller_->events().since(base::ModelName("one"), 0).back();
        EXPECT_EQ(stopping.kind, Kind::stopping);
        EXPECT_EQ(stopping.cause.rule, control::Rule::evicted);
        EXPECT_EQ(stopping.cause.request, second.id());
        EXPECT_EQ(stopping.reason, "evicted for two");
        controller_->ended(second);
        co_return;
      },
      kModelBytes);
}

TEST_F(ModelEventsTest, OfARemovedModelNothingIsKept) {
  play([&]() -> net::Task<void> {
    controller_->deploy(entry("m"));
    Ticket& ticket = arrive("m");
    const auto replica = controller_->events().since(base::ModelName("m"), 0).back().replica;
    controller_->remove(base::ModelName("m"));
    controller_->node_event(wire::InstanceGone{replica});
    EXPECT_EQ(happened("m"), "");
    EXPECT_TRUE(ticket.resolved());
    co_return;
  });
}

TEST_F(ModelEventsTest, ExplainsWithoutChangingAnything) {
  play([&]() -> net::Task<void> {
    controller_->deploy(entry("m"));
    const auto e = controller_->explain(base::ModelName("m"), base::TenantName("default"));
    EXPECT_EQ(e.prospect, control::Prospect::way_up);
    EXPECT_EQ(e.node.str(), "node");
    EXPECT_TRUE(e.at_least) << "nothing was measured yet";
    EXPECT_EQ(happened("m"), "deployed/none");
    EXPECT_TRUE(sent_.empty());
    co_return;
  });
}

TEST_F(ModelEventsTest, AModelIsFoundByItsAliasesAsLongAsItHasThem) {
  play([&]() -> net::Task<void> {
    ModelEntry aliased = entry("acme~m");
    aliased.spec.aliases = {"gpt", "other"};
    controller_->deploy(aliased);
    EXPECT_EQ(controller_->share("acme~gpt"), controller_->share("acme~m"));
    EXPECT_EQ(controller_->share("gpt"), nullptr) << "another tenant's";
    aliased.spec.aliases = {"other"};
    controller_->deploy(aliased);
    EXPECT_EQ(controller_->share("acme~gpt"), nullptr);
    EXPECT_EQ(controller_->share("acme~other"), controller_->share("acme~m"));
    controller_->deploy(entry("acme~other"));
    EXPECT_EQ(controller_->share("acme~other")->spec.name.str(), "acme~other") << "a name goes before an alias";
    controller_->remove(base::ModelName("acme~m"));
    EXPECT_EQ(controller_->share("acme~m"), nullptr);
    EXPECT_NE(controller_->share("acme~other"), nullptr);
    controller_->remove(base::ModelName("acme~other"));
    EXPECT_EQ(controller_->share("acme~other"), nullptr);
    co_return;
  });
}

TEST(ModelEventRing, IsBounded) {
  ModelEvents events;
  const base::ModelName model("m");
  ModelEvent long_one{.reason = std::string(ModelEvents::kMaxReasonBytes - 1, 'x') + "\u00e9 and more"};
  events.note(model, long_one);
  EXPECT_EQ(events.since(model, 0).front().reason, std::string(ModelEvents::kMaxReasonBytes - 1, 'x') + "...") << "cut before the character, not inside";
  for (std::size_t n = 0; n < 3 * ModelEvents::kKept; ++n) events.note(model, {});
  const auto all = events.since(model, 0);
  EXPECT_EQ(all.size(), ModelEvents::kKept);
  EXPECT_EQ(all.back().seq, 3 * ModelEvents::kKept + 1);
  EXPECT_EQ(events.since(model, all.back().seq - 1).size(), 1U);
  EXPECT_TRUE(events.since(model, all.back().seq).empty());
  EXPECT_TRUE(events.since(base::ModelName("other"), 0).empty());
  events.forget(model);
  EXPECT_TRUE(events.since(model, 0).empty());
}

}  // namespace
}  // namespace thaw::controller::test
