#include <fmt/format.h>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/revision.h"
#include "base/tenancy.h"
#include "spec/json_number.h"
#include "spec/parse.h"

namespace thaw::spec {
namespace {

namespace json = boost::json;

/// Exact, where base::format_duration rounds for people: "90s", "1500ms".
std::string exact(base::Duration duration) {
  const auto ns = duration.count();
  if (ns % 1'000'000'000 == 0) return fmt::format("{}s", ns / 1'000'000'000);
  if (ns % 1'000'000 == 0) return fmt::format("{}ms", ns / 1'000'000);
  if (ns % 1'000 == 0) return fmt::format("{}us", ns / 1'000);
  return fmt::format("{}ns", ns);
}

json::object resources_json(const Resources& resources) {
  json::object object{{"device", to_string(resources.device)}};
  if (resources.devices != 1) object["devices"] = resources.devices;
  if (resources.device_memory_bytes) object["deviceMemory"] = *resources.device_memory_bytes;
  if (resources.loading_memory_bytes) object["loadingMemory"] = *resources.loading_memory_bytes;
  if (resources.cpus) object["cpus"] = json_number(*resources.cpus);
  if (resources.host_memory_bytes) object["hostMemory"] = *resources.host_memory_bytes;
  if (resources.pids) object["pids"] = *resources.pids;
  return object;
}

json::object source_json(const Source& source) {
  if (!source.remote()) return {{"path", source.path}};
  json::object object;
  if (!source.hf.empty()) object["hf"] = source.hf;
  if (!source.url.empty()) object["url"] = source.url;
  if (!source.sha256.empty()) object["sha256"] = source.sha256;
  if (!source.path.empty()) object["pulledTo"] = source.path;
  return object;
}

json::object entries_json(const std::vector<Parameters::Entry>& entries) {
  json::object object;
  for (const Parameters::Entry& entry : entries) object[entry.key] = json::parse(entry.json);
  return object;
}

json::object parameters_json(const Parameters& parameters) {
  json::object object;
  if (!parameters.defaults.empty()) object["defaults"] = entries_json(parameters.defaults);
  if (!parameters.overrides.empty()) object["overrides"] = entries_json(parameters.overrides);
  return object;
}

json::object scaling_json(const Scaling& scaling) {
  return {{"minReplicas", scaling.min_replicas},
          {"maxReplicas", scaling.max_replicas},
          {"targetConcurrency", scaling.target_concurrency},
          {"idleTimeout", exact(scaling.idle_timeout)},
          {"queue", {{"maxLength", scaling.queue.max_length}, {"timeout", exact(scaling.queue.timeout)}}}};
}

json::array adapters_json(const std::vector<Adapter>& adapters) {
  json::array array;
  for (const Adapter& adapter : adapters) array.push_back(json::object{{"name", adapter.name}, {"path", adapter.path}, {"bytes", adapter.bytes}});
  return array;
}

/// All that an adapter has of its own.
json::object adapter_json(const ModelSpec& spec) {
  json::object body{{"base", spec.base_model}, {"source", source_json(spec.source)}, {"engine", to_string(spec.engine)}};
  if (!spec.aliases.empty()) body["aliases"] = json::array(spec.aliases.begin(), spec.aliases.end());
  if (!spec.parameters.empty()) body["parameters"] = parameters_json(spec.parameters);
  body["requestTimeout"] = exact(spec.request_timeout);
  body["stallTimeout"] = exact(spec.stall_timeout);
  return body;
}

std::string document(const ModelSpec& spec, json::object body) {
  json::object metadata{{"name", base::public_model(spec.name)}};
  if (const auto tenant = base::tenant_part(spec.name); tenant != base::kDefaultTenant) metadata["tenant"] = tenant;
  return json::serialize(json::object{{"apiVersion", "thaw/v1"},
                                      {"kind", "Model"},
                                      {"metadata", std::move(metadata)},
                                      {"spec", std::move(body)}});
}

}  // namespace

// Defaults are written out: a later release with other defaults must not change what is deployed.
std::string to_json(const ModelSpec& spec) {
  if (spec.is_adapter()) return document(spec, adapter_json(spec));
  json::object body{{"source", source_json(spec.source)}, {"engine", to_string(spec.engine)}};
  if (!spec.adapters.empty()) body["adapters"] = adapters_json(spec.adapters);
  if (!spec.aliases.empty()) body["aliases"] = json::array(spec.aliases.begin(), spec.aliases.end());
  if (!spec.engine_path.empty()) body["enginePath"] = spec.engine_path;
  if (!spec.image.empty()) body["image"] = spec.image;
  if (!spec.image_digest.empty()) body["imageDigest"] = spec.image_digest;
  if (spec.engine == EngineKind::command) {
    if (!spec.command.empty()) body["command"] = json::array(spec.command.begin(), spec.command.end());
    body["readyPath"] = spec.ready_path;
  }
  if (!spec.args.empty()) body["args"] = json::array(spec.args.begin(), spec.args.end());
  if (!spec.env.empty()) {
    json::object& env = body["env"].emplace_object();
    for (const auto& [name, value] : spec.env) env[name] = value;
  }
  if (!spec.secrets.empty()) {
    json::array& secrets = body["secrets"].emplace_array();
    for (const Secret& secret : spec.secrets) {
      json::object entry{{"name", secret.name}};
      if (!secret.file.empty()) entry["file"] = secret.file;
      if (!secret.from_env.empty()) entry["fromEnv"] = secret.from_env;
      secrets.push_back(std::move(entry));
    }
  }
  if (!spec.network.egress.empty()) body["network"] = {{"egress", json::array(spec.network.egress.begin(), spec.network.egress.end())}};
  if (spec.sandbox) body["sandbox"] = to_string(*spec.sandbox);
  if (!spec.parameters.empty()) body["parameters"] = parameters_json(spec.parameters);
  body["resources"] = resources_json(spec.resources);
  body["priority"] = to_string(spec.priority);
  body["scaling"] = scaling_json(spec.scaling);
  body["cache"] = json::object{{"pin", spec.cache.pin}};
  body["standby"] = {{"mode", to_string(spec.standby.mode)},
                     {"timeout", exact(spec.standby.timeout)},
                     {"weights", to_string(spec.standby.weights)}};
  body["snapshot"] = {{"mode", to_string(spec.snapshot.mode)}};
  body["startDeadline"] = exact(spec.start_deadline);
  body["requestTimeout"] = exact(spec.request_timeout);
  body["stallTimeout"] = exact(spec.stall_timeout);
  return document(spec, std::move(body));
}

}  // namespace thaw::spec
