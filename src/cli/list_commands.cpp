#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/rollout_commands.h"
#include "cli/pull_view.h"
#include "cli/table.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;
using Align = Table::Align;

Style style_of_state(const std::string& state) {
  if (state == "ready") return Style::green;
  if (state == "asleep" || state == "standby") return Style::dim;
  if (state == "backoff" || state == "not pulled") return Style::red;
  return Style::yellow;
}

std::string bytes_or_dash(const json::object& object, std::string_view key) {
  const std::uint64_t bytes = count_of(object, key);
  return bytes == 0 ? "-" : base::format_bytes(bytes);
}

/// "cuda0", "cuda0+cuda1": those that an instance has.
std::string devices_of(const json::object& instance) {
  std::string text;
  if (const json::value* devices = instance.if_contains("devices"); devices != nullptr && devices->is_array()) {
    for (const json::value& device : devices->get_array())
      if (device.is_string()) text += (text.empty() ? "" : "+") + std::string(device.get_string());
  }
  return text.empty() ? text_of(instance, "device") : text;
}

/// The texts of an array, with commas between.
std::string words_of(const json::object& object, std::string_view key) {
  std::string text;
  if (const json::value* words = object.if_contains(key); words != nullptr && words->is_array()) {
    for (const json::value& word : words->get_array())
      if (word.is_string()) text += (text.empty() ? "" : ", ") + std::string(word.get_string());
  }
  return text;
}

/// "cpu", "cuda", "2 cuda": what a model runs on.
std::string device_of(const json::object& model) {
  if (const std::string base = text_of(model, "base"); !base.empty()) return "by " + base;
  const std::uint64_t devices = count_of(model, "devices");
  return devices > 1 ? fmt::format("{} {}", devices, text_of(model, "device")) : text_of(model, "device");
}

/// "100%", "34%, pinned": how much of the weights is in host memory, where the next start finds it.
std::string warmth(const json::object& model) {
  const auto resident_bytes = number_of(model, "resident_bytes");
  const auto weights_bytes = static_cast<double>(count_of(model, "weights_bytes"));
  const std::string mark = flag_of(model, "pinned") ? ", pinned" : "";
  if (!resident_bytes || weights_bytes == 0) return "?" + mark;
  // All is said of all only, and something of something: rounded down, and up to 1%.
  const double percent = std::floor(*resident_bytes / weights_bytes * 100);
  return fmt::format("{:.0f}%{}", *resident_bytes > 0 ? std::max(percent, 1.0) : 0, mark);
}

std::string age_of_ms(double ms) {
  return format_age(base::Millis(static_cast<std::int64_t>(ms)));
}

std::optional<base::Duration> since(const json::object& object, std::string_view unix_ms_key) {
  const auto then_ms = number_of(object, unix_ms_key);
  if (!then_ms) return std::nullopt;
  const auto now = std::chrono::duration_cast<base::Millis>(std::chrono::system_clock::now().time_since_epoch());
  return now - base::Millis(static_cast<std::int64_t>(*then_ms));
}

std::string age_since(const json::object& object, std::string_view unix_ms_key) {
  const auto age = since(object, unix_ms_key);
  return age ? format_age(*age) : "-";
}

/// "5m ago"
std::string ago(const json::object& object, std::string_view unix_ms_key) {
  const auto age = since(object, unix_ms_key);
  return age ? format_ago(*age) : "-";
}

/// "pulling 43%" while a model's files are on their way.
std::string state_text(const json::object& model) {
  const std::string state = text_of(model, "state");
  const auto* pull = object_of(model, "pull");
  return state == "pulling" && pull != nullptr ? fmt::format("pulling {}%", count_of(*pull, "percent")) : state;
}

/// How the pull of one model goes, as a line.
std::string pull_text(const json::object& model) {
  const auto* pull = object_of(model, "pull");
  if (pull == nullptr) return {};
  if (const auto* error = object_of(*pull, "error")) return "failed: " + text_of(*error, "message");
  return pull_line(*pull, 100, false);
}

/// Why models are in back-off: one line each, below the table.
void print_failures(const std::vector<const json::object*>& models, Context& context) {
  for (const json::object* model : models) {
    const std::string failure = text_of(*model, "last_failure");
    if ((text_of(*model, "state") == "backoff" || text_of(*model, "state") == "not pulled") && !failure.empty())
      context.out << styled(text_of(*model, "name") + ":", Style::red, context.terminal.colours) << ' ' << failure
                  << '\n';
  }
}

/// Which models' files are not what was deployed: one line each, below the table.
void print_changed(const std::vector<const json::object*>& models, Context& context) {
  for (const json::object* model : models) {
    const std::string name = text_of(*model, "name");
    const std::uint64_t count = count_of(*model, "files_changed");
    if (count > 0)
      context.out << styled(name + ":", Style::yellow, context.terminal.colours)
                  << fmt::format(" {} file{} changed since it was deployed; see `thaw ls {}`, `thaw verify {}`\n", count,
                                 count == 1 ? "" : "s", name, name);
  }
}

/// One file as a line: what it was when deployed, and what is in its place.
std::string file_line(const json::object& file) {
  std::string line = text_of(file, "path");
  const auto digest = [](const json::object& what) {
    const std::string sha256 = text_of(what, "sha256");
    return sha256.empty() ? "not hashed yet" : "sha256 " + sha256;
  };
  if (const auto* deployed = object_of(file, "deployed")) line += ": " + digest(*deployed);
  if (const auto* changed = object_of(file, "changed"))
    line += fmt::format("; CHANGED {}: {}, {}", ago(*changed, "changed_unix_ms"), base::format_bytes(count_of(*changed, "bytes")),
                        digest(*changed));
  if (flag_of(file, "gone")) line += "; GONE";
  return line;
}

/// "1/2", "0+1/2": up or on their way, and in standby, of how many there may be.
std::string replicas_of(const json::object& model) {
  if (!text_of(model, "base").empty()) return "-";  // an adapter has none
  const std::uint64_t up = count_of(model, "ready") + count_of(model, "starting") + count_of(model, "waking");
  const std::uint64_t standby = count_of(model, "standby") + count_of(model, "freezing");
  return fmt::format("{}{}/{}", up, standby > 0 ? fmt::format("+{}", standby) : "", count_of(model, "max_replicas"));
}

/// "1.2 s", with its spread once there is one; empty when it was never measured.
std::string cost_of(const json::object& costs, std::string_view name) {
  const auto* cost = object_of(costs, name);
  if (cost == nullptr || count_of(*cost, "samples") == 0) return {};
  const double deviation_ms = number_of(*cost, "deviation_ms").value_or(0);
  return fmt::format("{} takes {}{}", name, format_ms(number_of(*cost, "mean_ms").value_or(0)),
                     deviation_ms > 0 ? fmt::format(" (+-{})", format_ms(deviation_ms)) : "");
}

/// What `thaw ls MODEL` says of standby and images.
template <typename Line>
void print_tiers(const json::object& model, const Line& line) {
  const auto* tiers = object_of(model, "tiers");
  if (tiers == nullptr) return;
  line("rests", text_of(*tiers, "rests"));
  const std::uint64_t transitions = count_of(*tiers, "freezes") + count_of(*tiers, "wakes") + count_of(*tiers, "restores");
  const std::uint64_t failures = count_of(*tiers, "freeze_failures") + count_of(*tiers, "wake_failures") + count_of(*tiers, "restore_failures");
  if (transitions + failures > 0)
    line("standby", fmt::format("{} freezes ({} failed), {} wakes ({} failed), {} restores ({} failed)", count_of(*tiers, "freezes"),
                                count_of(*tiers, "freeze_failures"), count_of(*tiers, "wakes"), count_of(*tiers, "wake_failures"),
                                count_of(*tiers, "restores"), count_of(*tiers, "restore_failures")));
  if (const auto* costs = object_of(*tiers, "costs")) {
    std::string all;
    for (const char* name : {"start", "restore", "wake", "freeze"}) {
      const std::string cost = cost_of(*costs, name);
      all += (all.empty() || cost.empty() ? "" : ", ") + cost;
    }
    line("costs", all);
  }
  if (const std::uint64_t images = count_of(model, "images"); images > 0)
    line("images", fmt::format("{}, {}, see `thaw images`", images, base::format_bytes(count_of(model, "image_bytes"))));
  line("no image", text_of(*tiers, "last_snapshot_failure"));
}

void print_models(const std::vector<const json::object*>& models, Context& context) {
  const bool tenants = other_tenants(models);
  Table table({{"NAME"},
               {"STATE"},
               {"REPLICAS", Align::right},
               {"ACTIVE", Align::right},
               {"QUEUED", Align::right},
               {"DEVICE"},
               {"MEMORY", Align::right},
               {"WEIGHTS", Align::right},
               {"WARM", Align::right},
               {"IMAGE", Align::right},
               {"AGE", Align::right}});
  if (tenants) table.prepend({"TENANT"});
  for (const json::object* model : models) {
    const std::string state = text_of(*model, "state");
    std::vector<Table::Cell> row{{text_of(*model, "name"), Style::bold},
               {state_text(*model), style_of_state(state)},
               {replicas_of(*model)},
               {std::to_string(count_of(*model, "in_flight"))},
               {std::to_string(count_of(*model, "queued"))},
               {device_of(*model)},
               {bytes_or_dash(*model, "device_memory_bytes")},
               {bytes_or_dash(*model, "weights_bytes")},
               {warmth(*model)},
               {bytes_or_dash(*model, "image_bytes")},
               {age_since(*model, "created_unix_ms")}};
    if (tenants) row.insert(row.begin(), {text_of(*model, "tenant")});
    table.add(std::move(row));
  }
  context.out << table.render(context.terminal.colours);
  print_failures(models, context);
  print_changed(models, context);
}

/// One model as lines of "key  value".
void print_model(const json::object& model, Context& context) {
  const auto line = [&context](std::string_view key, const std::string& value) {
    if (!value.empty())
      context.out << styled(fmt::format("{:<14}", key), Style::dim, context.terminal.colours) << value << '\n';
  };
  const std::string state = text_of(model, "state");
  line("name", text_of(model, "name"));
  line("state", styled(state_text(model), style_of_state(state), context.terminal.colours));
  line("pull", pull_text(model));
  line("base", text_of(model, "base"));
  line("adapters", words_of(model, "adapters"));
  line("aliases", words_of(model, "aliases"));
  line("source", text_of(model, "source"));
  if (const auto* image = object_of(model, "image")) {
    line("image", text_of(*image, "image"));
    line("image digest", text_of(*image, "digest"));
    const std::string here = text_of(*image, "state");
    const std::string progress = text_of(*image, "progress");
    if (here != "ready") line("image state", progress.empty() ? here : here + ", " + progress);
  }
  line("engine", text_of(model, "engine"));
  const bool adapter = !text_of(model, "base").empty();  // of what follows its base has all
  if (!adapter) line("device",
       fmt::format("{}, {} a replica", device_of(model), bytes_or_dash(model, "device_memory_bytes")));
  line("weights", bytes_or_dash(model, "weights_bytes"));
  if (!adapter) line("in memory", number_of(model, "resident_bytes")
                        ? fmt::format("{} ({})", base::format_bytes(count_of(model, "resident_bytes")), warmth(model))
                        : "the kernel does not say");
  line("not evicted", text_of(model, "eviction_failure"));
  if (!adapter) line("replicas",
       fmt::format("{} ready, {} starting, {} in standby (from {} to {})", count_of(model, "ready"),
                   count_of(model, "starting") + count_of(model, "waking"), count_of(model, "standby"),
                   count_of(model, "min_replicas"), count_of(model, "max_replicas")));
  if (!adapter) line("requests", fmt::format("{} running, {} queued", count_of(model, "in_flight"), count_of(model, "queued")));
  if (!adapter) line("cold starts", fmt::format("{}, {} failed, {} evictions", count_of(model, "cold_starts"),
                                  count_of(model, "start_failures"), count_of(model, "evictions")));
  if (!adapter) print_tiers(model, line);
  line("last failure", text_of(model, "last_failure"));
  line("revision", rollout_line(model));
  for (const json::object* file : objects_of(model, "files")) line("file", file_line(*file));
  line("deployed",
       ago(model, "created_unix_ms") + ", changed " + ago(model, "updated_unix_ms"));
}

int list_models(Context& context, const std::string& name) {
  const std::string path = name.empty() ? "/admin/v1/models" : "/admin/v1/models/" + percent_encode(name);
  const auto body = context.call({"GET", path, ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  if (!name.empty()) {
    print_model(*answer, context);
    return kExitOk;
  }
  const auto models = objects_of(*answer, "models");
  if (models.empty()) {
    context.err << "no models; deploy one with `thaw deploy PATH.gguf`\n";
  } else {
    print_models(models, context);
  }
  return kExitOk;
}

void print_instances(const std::vector<const json::object*>& instances, Context& context) {
  const bool tenants = other_tenants(instances);
  Table table({{"ID", Align::right},
               {"MODEL"},
               {"STATE"},
               {"WAY"},
               {"DEVICE"},
               {"RESERVED", Align::right},
               {"HELD", Align::right},
               {"HOST", Align::right},
               {"WEIGHTS", Align::right},
               {"ACTIVE", Align::right},
               {"SERVED", Align::right},
               {"AGE", Align::right},
               {"IDLE", Align::right},
               {"PID", Align::right}});
  if (tenants) table.prepend({"TENANT"});
  for (const json::object* instance : instances) {
    const std::string state = text_of(*instance, "state");
    const auto idle_ms = number_of(*instance, "idle_ms");
    const std::uint64_t pid = count_of(*instance, "pid");
    std::vector<Table::Cell> row{{std::to_string(count_of(*instance, "id"))},
               {text_of(*instance, "model"), Style::bold},
               {state, style_of_state(state)},
               {text_of(*instance, "way")},
               {devices_of(*instance)},
               {bytes_or_dash(*instance, "device_bytes")},
               {bytes_or_dash(*instance, "held_bytes")},
               {bytes_or_dash(*instance, "host_bytes")},
               {bytes_or_dash(*instance, "weights_resident_bytes")},
               {std::to_string(count_of(*instance, "in_flight"))},
               {std::to_string(count_of(*instance, "served"))},
               {age_of_ms(number_of(*instance, "age_ms").value_or(0))},
               {idle_ms ? age_of_ms(*idle_ms) : "-"},
               {pid == 0 ? "-" : std::to_string(pid)}};
    if (tenants) row.insert(row.begin(), {text_of(*instance, "tenant")});
    table.add(std::move(row));
  }
  context.out << table.render(context.terminal.colours);
  for (const json::object* instance : instances) {
    const std::string reason = text_of(*instance, "reason");
    if (text_of(*instance, "state") == "stopping" && !reason.empty())
      context.out << styled(fmt::format("{} ({}):", count_of(*instance, "id"), text_of(*instance, "model")), Style::yellow,
                            context.terminal.colours)
                  << " stops: " << reason << '\n';
  }
}

/// What is kept beside the devices, on nodes that keep any.
void print_nodes(const std::vector<const json::object*>& nodes, Context& context) {
  const bool domains = std::any_of(nodes.begin(), nodes.end(), [](const json::object* node) { return !text_of(*node, "domain").empty(); });
  Table table({{domains ? "NODE (DOMAIN)" : "NODE"}, {"HOST MEMORY", Align::right}, {"BUDGET", Align::right}, {"IMAGES", Align::right}, {"BUDGET", Align::right}});
  bool any = false;
  for (const json::object* node : nodes) {
    const std::string domain = text_of(*node, "domain");
    if (count_of(*node, "host_budget_bytes") + count_of(*node, "image_budget_bytes") == 0 && domain.empty()) continue;
    any = true;
    table.add({{text_of(*node, "node") + (domain.empty() ? "" : " (" + domain + ")"), Style::bold},
               {base::format_bytes(count_of(*node, "host_reserved_bytes"))},
               {base::format_bytes(count_of(*node, "host_budget_bytes"))},
               {base::format_bytes(count_of(*node, "image_reserved_bytes"))},
               {base::format_bytes(count_of(*node, "image_budget_bytes"))}});
  }
  if (any) context.out << '\n' << table.render(context.terminal.colours);
}

int list_instances(Context& context) {
  const auto body = context.call({"GET", "/admin/v1/instances", ""});
  if (!body.ok()) return context.fail(body.error());
  if (context.json) return context.print_json(*body);
  const auto answer = parse_object(*body, "the server");
  if (!answer.ok()) return context.fail(answer.error());
  const auto instances = objects_of(*answer, "instances");
  if (instances.empty()) {
    context.err << "no instances: every model is asleep\n";
  } else {
    print_instances(instances, context);
    context.out << '\n';
  }
  if (!answer->contains("devices")) return kExitOk;  // not for a tenant's key
  Table devices({{"DEVICE"}, {"NAME"}, {"RESERVED", Align::right}, {"BUDGET", Align::right}, {"TOTAL", Align::right}});
  for (const json::object* device : objects_of(*answer, "devices"))
    devices.add({{text_of(*device, "id"), Style::bold},
                 {text_of(*device, "name")},
                 {base::format_bytes(count_of(*device, "reserved_bytes"))},
                 {base::format_bytes(count_of(*device, "budget_bytes"))},
                 {base::format_bytes(count_of(*device, "total_bytes"))}});
  if (const json::object* cache = object_of(*answer, "host_cache"))
    devices.add({{"cache", Style::bold},
                 {"weights kept in host memory"},
                 {base::format_bytes(count_of(*cache, "cached_bytes"))},
                 {base::format_bytes(count_of(*cache, "budget_bytes"))},
                 {"-"}});
  context.out << devices.render(context.terminal.colours);
  print_nodes(objects_of(*answer, "nodes"), context);
  return kExitOk;
}

}  // namespace

void add_list_commands(Commands& commands) {
  auto name = std::make_shared<std::string>();
  CLI::App* ls = commands.add("ls", "List models, asleep or not; or show one of them",
                              "The server's JSON; for one model with its spec", {"thaw ls", "thaw ls stories --json"},
                              [name](Context& context) { return list_models(context, *name); });
  commands.add_tenant_option(ls);
  ls->add_option("MODEL", *name, "Show this model only");

  commands.add_tenant_option(commands.add("ps", "List running instances and how full the devices are", "The server's JSON",
                                          {"thaw ps", "thaw ps --json"}, list_instances));
}

}  // namespace thaw::cli
