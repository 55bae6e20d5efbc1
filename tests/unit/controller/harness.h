#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "controller/controller.h"
#include "net/loop.h"
#include "net/task.h"

namespace thaw::controller::test {

/// A controller on a real loop, with a node that does what the test says: commands are kept, events are the test's. A test is a
/// coroutine on the loop: play([&]() -> Task<void> { ... }).
class ControllerTest : public testing::Test {
 protected:
  using Script = std::function<net::Task<void>()>;
  static constexpr std::uint64_t kModelBytes = 100ULL << 20;

  ControllerTest() : loop_(std::move(net::Loop::create()).value()) {
    policy_.backoff_first = base::Millis(1);
    policy_.backoff_max = base::Millis(1);
    policy_.stop_grace = base::Millis(1234);
  }

  /// Runs the script to its end; whatever hangs fails the test after 20 s.
  void play(Script script, std::uint64_t budget_bytes = 1ULL << 30) {
    controller_ = std::make_unique<Controller>(*loop_, metrics_, policy_, 100, [this](const base::NodeName& node, wire::NodeCommand command) {
      EXPECT_EQ(node.str(), "node");
      if (std::holds_alternative<wire::ForgetModel>(command)) return;
      const bool for_cache = std::holds_alternative<wire::LookAtWeights>(command) || std::holds_alternative<wire::EvictWeights>(command);
      (for_cache ? sent_to_cache_ : sent_).push_back(std::move(command));
    });
    wire::DeviceInfo cpu;
    cpu.id = base::DeviceId("cpu0");
    cpu.total_bytes = cpu.budget_bytes = budget_bytes;
    wire::NodeHello hello;
    hello.node = base::NodeName("node");
    hello.devices = {cpu};
    hello.host_cache = {budget_bytes, budget_bytes};
    if (equip_) equip_(hello);
    controller_->node_joined(hello);
    net::Timer watchdog(*loop_, [this] {
      ADD_FAILURE() << "the test hangs";
      loop_->stop();
    });
    watchdog.arm(net::Loop::clock() + base::Seconds(20));
    loop_->post([this, &script] { net::spawn(run(script)); });
    loop_->run();
    tickets_.clear();
    controller_.reset();
  }

  static ModelEntry entry(const std::string& name, std::uint32_t concurrency = 1, std::uint32_t replicas = 1) {
    ModelEntry model;
    model.spec.name = base::ModelName(name);
    model.spec.source.path = "/models/" + name + ".gguf";
    model.spec.resources.device_memory_bytes = kModelBytes;
    model.spec.scaling.target_concurrency = concurrency;
    model.spec.scaling.max_replicas = replicas;
    return model;
  }

  /// A new request. Its ticket lives as long as the test does.
  Ticket& arrive(const std::string& model, const std::string& tenant = "default") {
    tickets_.push_back(std::make_unique<Ticket>(*loop_, base::RequestId(++last_request_)));
    controller_->arrived(*tickets_.back(), base::ModelName(model), base::TenantName(tenant));
    return *tickets_.back();
  }
  /// co_await until_resolved(ticket): or cancelled, or 10 s.
  auto until_resolved(Ticket& ticket) { return ticket.wait(net::Loop::clock() + base::Seconds(10)); }
  auto pause() { return net::SleepUntil(*loop_, net::Loop::clock() + base::Millis(1)); }
  /// Looks every millisecond, for 10 s.
  net::Task<bool> until(std::function<bool()> condition) {
    const base::TimePoint give_up = net::Loop::clock() + base::Seconds(10);
    while (!condition() && net::Loop::clock() < give_up) co_await pause();
    co_return condition();
  }

  /// What was ordered of instances since the last call: "start 101 m", "start 102 m from m-7", "freeze 101", "wake 101", "snapshot 103 m-103",
  /// "drop m-103", "stop 101".
  std::string orders() {
    std::string text;
    for (const wire::NodeCommand& command : std::exchange(sent_, {})) {
      if (!text.empty()) text += ", ";
      const auto number = [](const auto& of) { return std::to_string(of.instance.value()); };
      if (const auto* start = std::get_if<wire::StartInstance>(&command))
        text += "start " + number(*start) + " " + start->model.name.str() + (start->image.empty() ? "" : " from " + start->image.str());
      else if (const auto* freeze = std::get_if<wire::FreezeInstance>(&command))
        text += "freeze " + number(*freeze);
      else if (const auto* wake = std::get_if<wire::WakeInstance>(&command))
        text += "wake " + number(*wake);
      else if (const auto* snapshot = std::get_if<wire::TakeSnapshot>(&command))
        text += "snapshot " + number(*snapshot) + " " + snapshot->image.str();
      else if (const auto* drop = std::get_if<wire::DropImage>(&command))
        text += "drop " + drop->image.str();
      else if (const auto* load = std::get_if<wire::LoadAdapter>(&command))
        text += "load " + number(*load) + " " + load->adapter.str();
      else if (const auto* unload = std::get_if<wire::UnloadAdapter>(&command))
        text += "unload " + number(*unload) + " " + unload->adapter.str();
      else
        text += "stop " + number(std::get<wire::StopInstance>(command));
    }
    return text;
  }
  /// What was ordered of the host cache since the last call: "look /m.gguf, evict /m.gguf 2", 2 MiB being kept.
  std::string cache_orders() {
    std::string text;
    for (const wire::NodeCommand& command : std::exchange(sent_to_cache_, {})) {
      if (!text.empty()) text += ", ";
      if (const auto* look = std::get_if<wire::LookAtWeights>(&command)) text += "look " + look->source;
      if (const auto* evict = std::get_if<wire::EvictWeights>(&command))
        text += "evict " + evict->source + " " + std::to_string(evict->keep_bytes >> 20U);
    }
    return text;
  }
  /// The node's answer to a look.
  void weights(const std::string& source, std::uint64_t resident_bytes) {
    controller_->node_event(wire::WeightsState{base::NodeName("node"), source, kModelBytes, resident_bytes, true, 0});
  }
  [[nodiscard]] bool ordered() const { return !sent_.empty(); }

  void ready(std::uint64_t instance) {
    controller_->node_event(wire::InstanceReady{base::InstanceId(instance), socket_path_, {{"load", base::Millis(1), base::Millis(2)}}});
  }
  void down(std::uint64_t instance, wire::DownReason reason, const std::string& detail = "exit status 1") {
    controller_->node_event(wire::InstanceDown{base::InstanceId(instance), reason, detail, "last words"});
  }
  void gone(std::uint64_t instance) { controller_->node_event(wire::InstanceGone{base::InstanceId(instance)}); }
  void crash(std::uint64_t instance, wire::DownReason reason = wire::DownReason::crashed) {
    down(instance, reason);
    gone(instance);
  }

  /// "101 cold", "101 warm", "refused: queue_full" or "waiting".
  static std::string outcome(const Ticket& ticket) {
    if (const Grant* grant = ticket.grant()) return std::to_string(grant->replica->instance().value()) + (grant->cold ? " cold" : " warm");
    if (const auto* refusal = ticket.refusal()) return std::string("refused: ") + to_string(refusal->why);
    return "waiting";
  }

  std::unique_ptr<net::Loop> loop_;
  observe::Metrics metrics_;
  control::Policy policy_;
  std::string socket_path_ = "/nowhere/engine.sock";
  std::function<void(wire::NodeHello&)> equip_;  ///< what the node has beside a device; null: nothing
  std::vector<wire::NodeCommand> sent_;
  std::vector<wire::NodeCommand> sent_to_cache_;
  std::unique_ptr<Controller> controller_;

 private:
  net::Task<void> run(Script& script) {
    co_await script();
    loop_->stop();
  }

  std::vector<std::unique_ptr<Ticket>> tickets_;
  std::uint64_t last_request_ = 0;
};

}  // namespace thaw::controller::test
