#include "cli/prober.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <thread>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/json.h"
#include "cli/timing.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;
using Clock = std::chrono::steady_clock;

constexpr base::Duration kPatience = base::Seconds(120);  // for a start, a stop, a freeze
constexpr base::Duration kPoll = base::Millis(5);
constexpr base::Duration kSettle = base::Millis(700);        // the node makes the next sandbox ahead after a start
constexpr std::array<std::uint32_t, 3> kPrompts{4, 16, 48};  // words, each of some tokens
constexpr std::uint32_t kShortPrompt = 4, kRisingPrompt = 8, kSharingPrompt = 16;
constexpr std::uint32_t kShortAnswer = 4, kSharingAnswer = 8, kAnswer = 24, kLongAnswer = 96;

base::Error interrupted() {
  return {base::ErrorKind::conflict, "interrupted"};
}

double since(Clock::time_point from) {
  return std::chrono::duration<double>(Clock::now() - from).count();
}

base::Duration duration_of(const json::object& object, std::string_view key, base::Duration otherwise) {
  const auto parsed = base::parse_duration(text_of(object, key));
  return parsed.ok() ? *parsed : otherwise;
}

spec::Mode mode_of(const std::string& text) {
  return text == "never" ? spec::Mode::never : text == "always" ? spec::Mode::always : spec::Mode::automatic;
}

}  // namespace

base::Result<ProbedModel> Prober::describe(const std::string& name) {
  THAW_ASSIGN_OR_RETURN(const HttpResponse response,
                        client_.send({"GET", "/admin/v1/models/" + percent_encode(name), ""}));
  THAW_ASSIGN_OR_RETURN(const json::object answer, parse_object(response.body, "the server"));
  ProbedModel model;
  model.kind.name = name;
  model.kind.weights_bytes = std::max<std::uint64_t>(count_of(answer, "weights_bytes"), 1);
  const std::uint64_t device_bytes = count_of(answer, "device_memory_bytes");
  model.kind.working_bytes = device_bytes - std::min(device_bytes, model.kind.weights_bytes);
  model.like = fmt::format("{} {}", model.kind.weights_bytes, device_bytes);
  const json::object* const spec = object_of(answer, "spec");
  if (spec == nullptr) return model;
  if (const json::object* scaling = object_of(*spec, "scaling")) {
    model.kind.concurrency =
        static_cast<std::uint32_t>(std::max<std::uint64_t>(count_of(*scaling, "targetConcurrency"), 1));
    model.kind.max_replicas = static_cast<std::uint32_t>(std::max<std::uint64_t>(count_of(*scaling, "maxReplicas"), 1));
    model.kind.idle_timeout = duration_of(*scaling, "idleTimeout", model.kind.idle_timeout);
  }
  if (const json::value* source = spec->if_contains("source")) model.source = json::serialize(*source);
  if (const json::object* standby = object_of(*spec, "standby"))
    model.kind.standby = mode_of(text_of(*standby, "mode"));
  model.freezes = model.kind.standby != spec::Mode::never;
  // What an engine is started with decides how fast it is.
  for (const char* key : {"engine", "args", "env", "sandbox", "resources"}) {
    if (const json::value* value = spec->if_contains(key)) model.like += " " + json::serialize(*value);
  }
  model.like += fmt::format(" {} {}", model.kind.concurrency, model.freezes ? "freezes" : "stops");
  return model;
}

std::string Prober::prompt(std::uint32_t words) {
  std::string text;
  for (std::uint32_t n = 0; n < words; ++n) {
    word_ = word_ * 6364136223846793005U + 1442695040888963407U;
    text += fmt::format("{}{}", n == 0 ? "" : " ", (word_ >> 33U) % 1'000'000);
  }
  return text;
}

base::Result<sim::Probe> Prober::ask(const std::string& model, std::uint32_t words, std::uint32_t tokens) {
  const json::object body{{"model", model},       {"prompt", prompt(words)},
                          {"max_tokens", tokens}, {"temperature", 0},
                          {"stream", true},       {"stream_options", json::object{{"include_usage", true}}}};
  std::optional<double> first_s;
  const Clock::time_point began = Clock::now();
  StreamHandler handler;
  handler.interrupt_fd = interrupt_.fd();
  handler.on_data = [&](std::string_view bytes) -> base::Status {
    if (!first_s && bytes.find("data:") != std::string_view::npos) first_s = since(began);
    return {};
  };
  THAW_ASSIGN_OR_RETURN(const StreamOutcome outcome,
                        client_.stream({"POST", "/v1/completions", json::serialize(body)}, handler));
  if (outcome.end == StreamEnd::interrupted) return interrupted();
  std::string raw;
  THAW_ASSIGN_OR_RETURN(const RequestRecord record,
                        fetch_record(client_, outcome.response.request_id, interrupt_, &raw));
  if (!record.ttft_ms || record.prompt_tokens == 0)
    return base::Error{base::ErrorKind::io, model + " gave an answer without tokens; see `thaw logs " + model + "`"};
  sim::Probe probe;
  probe.prompt_tokens = static_cast<std::uint32_t>(record.prompt_tokens);
  probe.output_tokens = static_cast<std::uint32_t>(record.completion_tokens);
  longest_tokens_ = std::max(longest_tokens_, probe.prompt_tokens + probe.output_tokens);
  probe.queued_s = record.cold ? record.queued_ms / 1000 : 0;
  probe.first_s = *record.ttft_ms / 1000 - probe.queued_s;
  probe.answer_s = (record.total_ms - *record.ttft_ms) / 1000;
  probe.client_s = std::max(first_s.value_or(0) - *record.ttft_ms / 1000, 0.0);
  if (record.weights) {
    probe.read_bytes = record.weights->read_bytes;
    probe.read_s = record.weights->duration_ms / 1000;
  }
  return probe;
}

base::Duration Prober::request_cost() const {
  return base::Duration(static_cast<std::int64_t>(sim::median(client_s_) * 1e9));
}

// --- replicas

base::Result<std::vector<Prober::Seen>> Prober::instances(const std::string& model) {
  THAW_ASSIGN_OR_RETURN(const HttpResponse response, client_.send({"GET", "/admin/v1/instances", ""}));
  THAW_ASSIGN_OR_RETURN(const json::object answer, parse_object(response.body, "the server"));
  std::vector<Seen> seen;
  for (const json::object* one : objects_of(answer, "instances")) {
    if (text_of(*one, "model") != model) continue;
    seen.push_back({text_of(*one, "state"), count_of(*one, "device_bytes"), count_of(*one, "host_bytes"),
                    count_of(*one, "held_bytes")});
  }
  return seen;
}

base::Status Prober::wait(const std::string& what, const std::function<base::Result<bool>()>& condition) {
  const Clock::time_point began = Clock::now();
  for (;;) {
    THAW_ASSIGN_OR_RETURN(const bool there, condition());
    if (there) return {};
    if (Clock::now() - began > kPatience)
      return base::Error{base::ErrorKind::timeout,
                         fmt::format("{}: not within {}", what, base::format_duration(kPatience))};
    if (interrupt_.wait_for(kPoll)) return interrupted();
  }
}

base::Status Prober::act(const std::string& name, const char* act) {
  const auto response = client_.send({"POST", "/admin/v1/models/" + percent_encode(name) + "/" + act, ""});
  return response.ok() ? base::Status() : base::Status(response.error());
}

base::Status Prober::stop(const std::string& name) {
  longest_tokens_ = 0;
  THAW_RETURN_IF_ERROR(act(name, "stop"));
  return wait("the end of " + name, [&]() -> base::Result<bool> {
    THAW_ASSIGN_OR_RETURN(const auto seen, instances(name));
    return seen.empty();
  });
}

// --- probes

/// Weights that come in at full speed are there before a longer prompt is read: what it takes longer then is not the
/// disk's.
std::uint32_t Prober::prompt_for(Weights weights) {
  return weights == Weights::just_left ? kSharingPrompt : kShortPrompt;
}

base::Status Prober::measure_answers(const std::string& name, std::uint32_t concurrency, sim::ModelProbes& probes) {
  for (const std::uint32_t words : kPrompts) {
    THAW_ASSIGN_OR_RETURN(const sim::Probe probe, ask(name, words, kShortAnswer));
    client_s_.push_back(probe.client_s);
    probes.warm.push_back(probe);
  }
  THAW_ASSIGN_OR_RETURN(const sim::Probe alone, ask(name, kShortPrompt, kAnswer));
  probes.decode.push_back(alone);
  if (concurrency < 2) return {};
  THAW_ASSIGN_OR_RETURN(const auto both, ask_all({name, name}, kShortPrompt, kAnswer));
  probes.together.insert(probes.together.end(), both.begin(), both.end());
  return {};
}

base::Status Prober::measure_start(const std::string& name, Weights weights, sim::ModelProbes& probes) {
  const Clock::time_point stopped = Clock::now();
  THAW_RETURN_IF_ERROR(stop(name));
  probes.stop_s.push_back(since(stopped));
  if (weights == Weights::on_disk) THAW_RETURN_IF_ERROR(act(name, "evict"));
  if (interrupt_.wait_for(weights == Weights::on_disk ? std::max(pause_, kSettle) : kSettle)) return interrupted();
  // A host may take the memory back at any moment from then on.
  if (weights == Weights::just_left) THAW_RETURN_IF_ERROR(act(name, "evict"));
  THAW_ASSIGN_OR_RETURN(const sim::Probe probe, ask(name, prompt_for(weights), kShortAnswer));
  // The server may have kept the weights for another model that has the same files, or had no room to keep them.
  auto& from_disk = weights == Weights::just_left ? probes.soon_from_disk : probes.from_disk;
  (probe.read_bytes > 0 ? from_disk : probes.starts).push_back(probe);
  return {};
}

base::Status Prober::measure_standby(ProbedModel& model, Weights weights, sim::ModelProbes& probes) {
  const std::string& name = model.kind.name;
  const Clock::time_point frozen = Clock::now();
  const base::Status answer = act(name, "freeze");
  if (!answer.ok() && answer.error().kind == base::ErrorKind::conflict) {
    say_(answer.error().message);  // it has no driver for standby: it is stopped when idle
    model.freezes = false;
    return {};
  }
  THAW_RETURN_IF_ERROR(answer);
  Seen rests;
  THAW_RETURN_IF_ERROR(wait("standby of " + name, [&]() -> base::Result<bool> {
    THAW_ASSIGN_OR_RETURN(const auto seen, instances(name));
    if (seen.empty())
      return base::Error{base::ErrorKind::conflict, name + " could not be frozen; `thaw ls " + name + "` says why"};
    rests = seen.front();
    return rests.state == "standby";
  }));
  probes.freeze_s.push_back(since(frozen));
  probes.resting.push_back({std::max(rests.device_bytes, rests.host_bytes), longest_tokens_});
  const bool soon = weights == Weights::just_left;
  if (!soon && interrupt_.wait_for(std::max(pause_, kSettle))) return interrupted();
  THAW_ASSIGN_OR_RETURN(const sim::Probe probe, ask(name, prompt_for(weights), kShortAnswer));
  (soon ? probes.soon_wakes : probes.wakes).push_back(probe);
  return {};
}

base::Status Prober::measure_holding(const std::string& name, std::vector<sim::Holding>& into) {
  THAW_ASSIGN_OR_RETURN(const auto seen, instances(name));
  if (!seen.empty() && seen.front().held_bytes > 0) into.push_back({seen.front().held_bytes, longest_tokens_});
  return {};
}

base::Status Prober::measure(ProbedModel& model, sim::ModelProbes& probes) {
  const std::string& name = model.kind.name;
  say_("asking " + name);
  // Up once, so that each of the starts has a stop before it that is one.
  if (const auto up = ask(name, kShortPrompt, kShortAnswer); !up.ok()) return up.error();
  THAW_RETURN_IF_ERROR(measure_start(name, Weights::just_left, probes));
  THAW_RETURN_IF_ERROR(measure_start(name, Weights::on_disk, probes));
  THAW_RETURN_IF_ERROR(measure_start(name, Weights::in_memory, probes));
  THAW_RETURN_IF_ERROR(measure_holding(name, probes.short_up));
  THAW_RETURN_IF_ERROR(measure_answers(name, model.kind.concurrency, probes));
  THAW_RETURN_IF_ERROR(measure_holding(name, probes.long_up));
  if (model.freezes) THAW_RETURN_IF_ERROR(measure_standby(model, Weights::just_left, probes));
  if (model.freezes) THAW_RETURN_IF_ERROR(measure_standby(model, Weights::on_disk, probes));
  return stop(name);
}

base::Result<std::vector<sim::Probe>> Prober::ask_all(const std::vector<std::string>& models, std::uint32_t words,
                                                      std::uint32_t tokens) {
  std::vector<std::optional<base::Result<sim::Probe>>> answers(models.size());
  std::vector<std::thread> threads;
  for (std::size_t n = 0; n < models.size(); ++n) {
    threads.emplace_back([&, n] {
      Prober own(client_, interrupt_, pause_, say_);
      own.word_ = word_ ^ (~std::uint64_t{0} >> n);  // no prompt begins like another one's
      answers[n] = own.ask(models[n], words, tokens);
    });
  }
  for (std::thread& thread : threads) thread.join();
  static_cast<void>(prompt(words));  // nor like one of the next
  std::vector<sim::Probe> all;
  for (auto& answer : answers) {
    if (!answer->ok()) return answer->error();
    all.push_back(std::move(*answer).value());
  }
  return all;
}

base::Status Prober::put_to_rest(const ProbedModel& model) {
  const std::string& name = model.kind.name;
  if (!model.freezes) {
    THAW_RETURN_IF_ERROR(stop(name));
    return act(name, "evict");
  }
  const auto answer = act(name, "freeze");
  if (!answer.ok() && answer.error().kind != base::ErrorKind::conflict)
    return answer;  // idle for long, it rests already
  return wait("standby of " + name, [&]() -> base::Result<bool> {
    THAW_ASSIGN_OR_RETURN(const auto seen, instances(name));
    return seen.empty() || seen.front().state == "standby";
  });
}

/// All of them come up at once. Stops them in the end.
base::Status Prober::measure_rising(const std::vector<ProbedModel>& models, Weights weights,
                                    std::vector<sim::RisingProbe>& probes) {
  say_(fmt::format("asking {} models at once that are at rest", models.size()));
  for (const ProbedModel& model : models)
    if (const auto up = ask(model.kind.name, kShortPrompt, kShortAnswer); !up.ok()) return up.error();
  for (const ProbedModel& model : models) THAW_RETURN_IF_ERROR(put_to_rest(model));
  // Late: once a host has all of their memory back (sim::HostMemory), which takes longer the more it is.
  const bool late = weights == Weights::on_disk;
  const base::Duration until_gone = std::max(pause_ * static_cast<int>(models.size()) / 2, kSettle);
  if (late && interrupt_.wait_for(until_gone)) return interrupted();
  std::vector<std::string> names;
  for (const ProbedModel& model : models) names.push_back(model.kind.name);
  THAW_ASSIGN_OR_RETURN(const auto all, ask_all(names, kRisingPrompt, kShortAnswer));
  sim::RisingProbe probe;
  probe.late = late;
  for (std::size_t n = 0; n < models.size(); ++n) {
    const wire::Way way = models[n].freezes ? wire::Way::wake : wire::Way::start;
    probe.risers.push_back({names[n], way, all[n].prompt_tokens});
    probe.together_s = std::max(probe.together_s, all[n].queued_s + all[n].first_s);
  }
  probes.push_back(std::move(probe));
  for (const std::string& name : names) THAW_RETURN_IF_ERROR(stop(name));
  return {};
}

/// A start beside an engine that computes, and without; answers one after the other, and at once.
base::Status Prober::measure_sharing(const ProbedModel& one, const ProbedModel& other, sim::SharingProbes& probes) {
  const std::string &a = one.kind.name, &b = other.kind.name;
  say_("asking " + a + " and " + b + " at once");
  THAW_ASSIGN_OR_RETURN(const sim::Probe up, ask(a, kShortPrompt, kShortAnswer));
  THAW_ASSIGN_OR_RETURN(const sim::Probe alone, ask_fresh(b));
  probes.fresh_alone_s.push_back(alone.queued_s + alone.first_s);
  THAW_RETURN_IF_ERROR(stop(b));
  if (interrupt_.wait_for(kSettle)) return interrupted();
  Prober beside(client_, interrupt_, pause_, say_);
  beside.word_ = ~word_;
  std::optional<base::Result<sim::Probe>> computes;
  std::thread thread([&] { computes = beside.ask(a, kShortPrompt, kLongAnswer); });
  const bool ends = interrupt_.wait_for(base::Duration(static_cast<std::int64_t>((up.first_s * 2 + 0.1) * 1e9)));
  auto fresh = ends ? base::Result<sim::Probe>(interrupted()) : ask(b, kSharingPrompt, kShortAnswer);
  thread.join();
  if (!fresh.ok()) return fresh.error();
  if (!computes->ok()) return computes->error();
  probes.fresh_beside_s.push_back(fresh->queued_s + fresh->first_s);
  // Prompts and tokens: engines that wait for their own threads at every layer lose more by each other in the latter.
  const auto whole_s = [](const sim::Probe& probe) { return probe.first_s + probe.answer_s; };
  THAW_ASSIGN_OR_RETURN(const sim::Probe first, ask(a, kSharingPrompt, kSharingAnswer));
  THAW_ASSIGN_OR_RETURN(const sim::Probe second, ask(b, kSharingPrompt, kSharingAnswer));
  probes.apart_s.push_back(whole_s(first) + whole_s(second));
  THAW_ASSIGN_OR_RETURN(const auto both, ask_all({a, b}, kSharingPrompt, kSharingAnswer));
  probes.together_s.push_back(std::max(whole_s(both[0]), whole_s(both[1])));
  THAW_RETURN_IF_ERROR(stop(a));
  return stop(b);
}

base::Result<sim::Probe> Prober::ask_fresh(const std::string& name) {
  THAW_RETURN_IF_ERROR(stop(name));
  if (interrupt_.wait_for(kSettle)) return interrupted();
  return ask(name, kSharingPrompt, kShortAnswer);
}

}  // namespace thaw::cli
