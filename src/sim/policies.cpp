// Every policy by its name. Rivals follow their public descriptions; where a description leaves something open, it is
// decided in the rival's favour and said in `describes`. All come up by the fastest way there is from nothing (an image
// where one is): policies are compared, not mechanisms.
#include <algorithm>
#include <functional>

#include "sim/policy.h"
#include "sim/rival.h"
#include "sim/thaw_policy.h"
#include "spec/parse.h"

namespace thaw::sim {

namespace {

using Replicas = RivalRules::Replicas;
using Place = RivalRules::Place;

struct Entry {
  PolicyInfo info;
  std::function<std::unique_ptr<Policy>()> make;
};

std::unique_ptr<Policy> rival(const RivalRules& rules) {
  return std::make_unique<RivalPolicy>(rules);
}

RivalRules always_on() {
  RivalRules rules;
  rules.replicas = Replicas::fixed;
  rules.place = Place::most_free;
  rules.evicts = false;
  return rules;
}

RivalRules ollama() {
  RivalRules rules;
  rules.place = Place::most_free;
  rules.keep_alive = std::chrono::minutes(5);
  return rules;
}

RivalRules llama_swap() {
  RivalRules rules;
  rules.alone = true;
  return rules;
}

RivalRules knative() {
  RivalRules rules;
  rules.replicas = Replicas::windows;
  rules.place = Place::most_free;
  rules.evicts = false;
  return rules;
}

RivalRules inferx() {
  RivalRules rules;
  rules.replicas = Replicas::demand;
  return rules;
}

RivalRules serverlessllm() {
  RivalRules rules;
  rules.replicas = Replicas::demand;
  rules.place = Place::fastest;
  rules.keep_alive_as_loading = true;
  return rules;
}

const std::vector<Entry>& entries() {
  static const std::vector<Entry> all{
      {{"thaw",
        "control::Scheduler as the daemon runs it, with standby and images; the server says scaling.idle: auto",
        {"docs/architecture.md"},
        false},
       [] {
         return std::make_unique<ThawPolicy>(ThawPolicy::Ways{true, true});
       }},
      {{"thaw-5m",
        "the same with scaling.idle: timeout, the default: every model stays for its idleTimeout of 5 min",
        {"docs/architecture.md"},
        false},
       [] {
         return std::make_unique<ThawPolicy>(ThawPolicy::Ways{true, true, false});
       }},
      {{"thaw-reactive",
        "thaw without forecasts: an idle replica stays for as long as giving its device back and taking it again costs",
        {"docs/scheduling.md"},
        false},
       [] {
         return std::make_unique<ThawPolicy>(ThawPolicy::Ways{true, true, true, false});
       }},
      {{"thaw-no-standby",
        "thaw without standby: idle replicas end, and come up from images",
        {"docs/architecture.md"},
        false},
       [] {
         return std::make_unique<ThawPolicy>(ThawPolicy::Ways{false, true});
       }},
      {{"thaw-plain",
        "thaw without standby and without images: every cold start is a start",
        {"docs/architecture.md"},
        false},
       [] {
         return std::make_unique<ThawPolicy>(ThawPolicy::Ways{false, false});
       }},
      {{"always-on",
        "as many replicas of every model as its busiest moment needs, known beforehand; from before the first request "
        "until after the last",
        {"how vLLM and Triton are deployed without a platform: a process a model"},
        true},
       [] { return rival(always_on()); }},
      {{"ollama",
        "one replica a model, kept 5 min after its last request; the longest idle make room; on the device with most "
        "room; queue of 512",
        {"OLLAMA_KEEP_ALIVE 5m, OLLAMA_MAX_QUEUE 512: github.com/ollama/ollama/blob/main/envconfig/config.go",
         "idle models make room: github.com/ollama/ollama/blob/main/docs/faq.mdx, \"How does Ollama handle concurrent "
         "requests?\"",
         "in its favour: no limit on how many models are loaded (OLLAMA_MAX_LOADED_MODELS: 3 a GPU), as many requests "
         "at a "
         "time as others' replicas take (OLLAMA_NUM_PARALLEL: 1), the queue is each model's own: docs/faq.mdx"},
        true},
       [] { return rival(ollama()); }},
      {{"llama-swap",
        "one model on a device at a time, kept until another needs the device (globalTTL 0)",
        {"\"keeps a model loaded until something else needs the GPU\", globalTTL 0: "
         "github.com/mostlygeek/llama-swap/blob/main/docs/kb/guides/"
         "model-runtime/ttl-and-unloading.md",
         "how many requests a model serves at a time is its server's, and what is beyond waits (llama-swap itself "
         "answers 429 "
         "beyond concurrencyLimit, 10): github.com/mostlygeek/llama-swap/blob/main/config.example.yaml",
         "in its favour: one instance for all devices, the longest idle is swapped out"},
        true},
       [] { return rival(llama_swap()); }},
      {{"knative",
        "KPA: stable window 60 s, panic window 6 s at 200%, target 70%, to zero after 60 s without traffic; spread "
        "over devices, nothing is evicted",
        {"knative.dev/docs/serving/autoscaling/kpa-specific and autoscale-go; defaults: "
         "github.com/knative/serving/blob/main/config/core/configmaps/"
         "autoscaler.yaml",
         "there: stable-window 60s, panic-window-percentage 10, panic-threshold-percentage 200, "
         "container-concurrency-target-percentage 70, max-scale-up-rate 1000, max-scale-down-rate 2, tick-interval 2s",
         "in its favour: pods share a GPU by memory, and no scale-to-zero-grace-period (30s) follows the window"},
        true},
       [] { return rival(knative()); }},
      {{"inferx",
        "as many replicas as requests need, first fit, restored from snapshots; idle ones keep their memory until "
        "somebody needs it",
        {"first fit over a node's GPUs, idle pods in a list by last use (idlePods), leased until returned: "
         "github.com/inferx-net/inferx/blob/main/doc/arch/system-architecture.md, sections 3.3 and 5.3.5",
         "in its favour: the longest idle goes first, and a failed resume is not simulated"},
        true},
       [] { return rival(inferx()); }},
      {{"serverlessllm",
        "as many replicas as requests need, each where it is up first (queues of disk and bus counted); kept as long "
        "as it took to come up",
        {"startup-time-optimised scheduling, keep-alive as long as loading: Fu et al., OSDI 2024, arXiv:2401.14351",
         "in its favour: at every event, where its scheduler looks once a second and its autoscaler every 3 s (a "
         "replica for each "
         "5 that wait): sllm/schedulers/storage_aware_scheduler.py, sllm/autoscaler.py in "
         "github.com/ServerlessLLM/ServerlessLLM",
         "live migration is not simulated; its aim, not to wait for busy devices, is met by idle replicas making room"},
        true},
       [] { return rival(serverlessllm()); }},
  };
  return all;
}

}  // namespace

const std::vector<PolicyInfo>& policies() {
  static const std::vector<PolicyInfo> infos = [] {
    std::vector<PolicyInfo> all;
    for (const Entry& entry : entries()) all.push_back(entry.info);
    return all;
  }();
  return infos;
}

std::unique_ptr<Policy> make_policy(const std::string& name) {
  for (const Entry& entry : entries()) {
    if (entry.info.name == name) return entry.make();
  }
  return nullptr;
}

base::Result<std::vector<std::string>> parse_policies(const std::string& text) {
  std::vector<std::string> known, names;
  for (const PolicyInfo& info : policies()) known.push_back(info.name);
  if (text == "all") return known;
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t comma = std::min(text.find(',', from), text.size());
    const std::string name = text.substr(from, comma - from);
    from = comma + 1;
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      std::string all;
      for (const std::string& one : known) all += (all.empty() ? "" : ", ") + one;
      const std::string close = spec::nearest(name, known);
      return base::Error{base::ErrorKind::invalid,
                         "there is no policy \"" + name + "\"; " +
                             (close.empty() ? "there are " + all + ", and all" : "did you mean " + close + "?")};
    }
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

}  // namespace thaw::sim
