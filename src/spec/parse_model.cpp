#include <algorithm>

#include <fmt/format.h>

#include "base/tenancy.h"
#include "spec/command_template.h"
#include "spec/egress_rule.h"
#include "spec/fields.h"
#include "spec/image_ref.h"
#include "spec/parse.h"
#include "spec/parse_adapters.h"
#include "spec/parse_parameters.h"
#include "spec/parse_secrets.h"
#include "spec/schema.h"
#include "spec/source_ref.h"
#include "spec/tenant_spec.h"

namespace thaw::spec {
namespace {

using base::Millis;
using base::Seconds;
using std::chrono::hours;

// A stored spec is read back under kMaxYamlBytes: args and env together can at most double in JSON (\n, \", \\).
constexpr std::size_t kMaxListed = 256;
constexpr std::size_t kMaxListedBytes = 128ULL << 10;

constexpr std::size_t kMaxNameLength = base::kMaxModelName;  // a DNS label's, since names become host and metric labels
constexpr double kMinCpus = 0.01;           // the kernel takes no quota under 1 ms in its period of 100 ms
constexpr double kMaxCpus = 4096;
constexpr std::uint64_t kMaxMemory = 1ULL << 50;
constexpr std::uint64_t kMinPids = 16;
constexpr std::uint64_t kMaxPids = 32'768;

bool is_lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

struct Metadata {
  std::string name;
  std::string tenant;
};

void read_name(const Cursor& at, Metadata& into) {
  std::string name;
  if (!read_text(at, name)) return;
  const bool right = !name.empty() && name.size() <= kMaxNameLength && is_lower_or_digit(name.front()) &&
                     is_lower_or_digit(name.back()) && std::all_of(name.begin(), name.end(), [](char c) {
                       return is_lower_or_digit(c) || c == '.' || c == '_' || c == '-';
                     });
  if (right)
    into.name = name;
  else
    at.refuse(fmt::format(
        "\"{}\" is no name; use 1 to {} of a-z, 0-9, \".\", \"_\" and \"-\", a letter or digit first and last",
        printable(name), kMaxNameLength));
}

std::string name_shape() {
  return fmt::format(R"({{"type":"string","maxLength":{},"pattern":"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"}})", kMaxNameLength);
}

void read_tenant(const Cursor& at, Metadata& into) {
  std::string tenant;
  if (!read_text(at, tenant)) return;
  if (base::is_tenant_name(tenant))
    into.tenant = tenant;
  else
    at.refuse(fmt::format("\"{}\" is no tenant's name; {}", printable(tenant), kTenantNameRule));
}

const Table<Metadata>& metadata_table() {
  static const Table<Metadata> table{required<Metadata>({"name", read_name, false, name_shape()}), {"tenant", read_tenant, false, name_shape()}};
  return table;
}

void read_metadata(const Cursor& at, ModelSpec& into) {
  Metadata metadata;
  read_table(at, metadata_table(), metadata);
  into.name = base::qualified(metadata.tenant, metadata.name);
}

/// True while a list that has grown to `count` entries of `total_bytes` is within bounds.
bool within_bounds(const Cursor& at, std::size_t count, std::size_t total_bytes) {
  if (count <= kMaxListed && total_bytes <= kMaxListedBytes) return true;
  at.refuse(fmt::format("is too long; at most {} entries and {} bytes are possible", kMaxListed, kMaxListedBytes));
  return false;
}

/// `example`: of such a list.
void read_words(const Cursor& at, const char* example, std::vector<std::string>& into) {
  if (at.value.kind != YamlValue::Kind::sequence) return at.refuse(fmt::format("must be a list, such as {}", example));
  std::size_t total_bytes = 0;
  for (std::size_t i = 0; i < at.value.items.size(); ++i) {
    std::string word;
    if (!read_text({at.value.items[i], fmt::format("{}[{}]", at.path, i), at.problems}, word)) continue;
    if (!within_bounds(at, i + 1, total_bytes += word.size())) return;
    into.push_back(word);
  }
}

constexpr const char* kScalar = R"({"type":["string","number","boolean"]})";  // YAML's scalars are all text to us
std::string words_shape() { return shapes::list(kScalar, kMaxListed); }

void read_args(const Cursor& at, ModelSpec& into) { read_words(at, R"(["-c", "512"])", into.args); }

void read_command(const Cursor& at, ModelSpec& into) {
  read_words(at, R"(["/opt/server/bin/serve", "--model", "{model}", "--port", "{port}"])", into.command);
  if (at.value.kind == YamlValue::Kind::sequence && at.value.items.empty()) at.refuse("names no program");
  if (into.command.empty()) return;
  if (auto right = check_command(into.command); !right.ok()) at.refuse(right.error().message);
}

void read_ready_path(const Cursor& at, ModelSpec& into) {
  constexpr std::size_t kMaxPath = 256;
  std::string path;
  if (!read_text(at, path)) return;
  const bool right = path.starts_with("/") && path.size() <= kMaxPath &&
                     std::all_of(path.begin(), path.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (right)
    into.ready_path = path;
  else
    at.refuse(fmt::format("\"{}\" is no path to ask a server for; write it like /health", printable(path)));
}

bool has_key(const Cursor& at, std::string_view key) {
  return std::any_of(at.value.keys.begin(), at.value.keys.end(), [&](const YamlValue::Key& found) { return found.text == key; });
}

std::function<void(const Cursor&, ModelSpec&)> read_image(const std::string& base_directory) {
  return [base_directory](const Cursor& at, ModelSpec& into) {
    std::string text;
    if (!read_text(at, text)) return;
    const auto ref = parse_image_ref(text, base_directory);
    if (!ref.ok()) return at.refuse(ref.error().message);
    into.image = to_string(*ref);
    if (into.image_digest.empty()) into.image_digest = ref->digest;
  };
}

void read_image_digest(const Cursor& at, ModelSpec& into) {
  std::string digest;
  if (!read_text(at, digest)) return;
  if (!is_digest(digest)) return at.refuse(fmt::format("\"{}\" is no digest; write sha256: and 64 hex digits, or leave it out", printable(digest)));
  into.image_digest = digest;
}

void read_egress(const Cursor& at, Network& into) {
  read_items(at, {"destinations", "[huggingface.co:443]", kMaxEgressRules}, [&into](const Cursor& item) {
    std::string text;
    if (!read_text(item, text)) return;
    if (const auto rule = parse_egress_rule(text); !rule.ok())
      item.refuse(rule.error().message);
    else
      into.egress.push_back(text);
  });
}

Table<Network> network_table() {
  return {{"egress", read_egress, false, shapes::list(shapes::text(), kMaxEgressRules)}};
}

/// What an image does not go with, and what goes only with one.
void check_image(const Cursor& at, const ModelSpec& spec) {
  if (spec.image.empty()) {
    if (has_key(at, "imageDigest") && !has_key(at, "image")) at.at("imageDigest").refuse("is for models with spec.image");
    return;
  }
  const auto ref = parse_image_ref(spec.image, "/");
  if (ref.ok() && !ref->digest.empty() && ref->digest != spec.image_digest)
    at.at("imageDigest").refuse("is another digest than spec.image names; leave one of them out");
  if (spec.snapshot.mode == Mode::always)
    at.at("snapshot").refuse("mode always is not for models with spec.image: images of running engines are made of the host's own files only; leave it out");
}

/// What only one of the engines has.
void check_engine(const Cursor& at, const ModelSpec& spec) {
  if (spec.engine != EngineKind::command) {
    for (const char* key : {"command", "readyPath"})
      if (has_key(at, key))
        at.at(key).refuse(fmt::format("is for engine: command; engine {} has its own (arguments go into args)", to_string(spec.engine)));
    return;
  }
  if (spec.command.empty() && !spec.image.empty()) {
    if (const auto right = check_arguments_of_entrypoint(spec.args); !right.ok()) at.at("args").refuse(right.error().message);
  } else if (!has_key(at, "command")) {
    at.refuse("engine: command needs the key command, the program and its arguments as a list");
  }
  if (!spec.engine_path.empty()) at.at("enginePath").refuse("is not for engine: command, whose program is the first word of command");
}

bool is_variable_name(const std::string& name) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !name.empty() && is_letter(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); });
}

void read_env(const Cursor& at, ModelSpec& into) {
  if (at.value.kind != YamlValue::Kind::mapping)
    return at.refuse("must be a mapping, such as {LLAMA_ARG_THREADS: \"4\"}");
  std::size_t total_bytes = 0;
  for (std::size_t i = 0; i < at.value.items.size(); ++i) {
    const YamlValue::Key& key = at.value.keys[i];
    const std::string path = at.path + "." + printable(key.text);
    std::string value;
    if (!is_variable_name(key.text)) {
      at.problems.add(key.place, path, "is no name of a variable; use letters, digits and \"_\", no digit first");
    } else if (into.env.contains(key.text)) {
      at.problems.add(key.place, path, "given twice");
    } else if (read_text({at.value.items[i], path, at.problems}, value)) {
      if (!within_bounds(at, i + 1, total_bytes += key.text.size() + value.size())) return;
      into.env.emplace(key.text, value);
    }
  }
}

Table<Resources> resources_table() {
  return {choice<Resources, DeviceKind>(
              "device", &Resources::device,
              {{to_string(DeviceKind::cpu), DeviceKind::cpu}, {to_string(DeviceKind::cuda), DeviceKind::cuda}}),
          whole("devices", &Resources::devices, 1, kMaxDevicesOfReplica),
          bytes("deviceMemory", &Resources::device_memory_bytes, 1, kMaxMemory),
          bytes("loadingMemory", &Resources::loading_memory_bytes, 0, kMaxMemory),
          real("cpus", &Resources::cpus, kMinCpus, kMaxCpus),
          bytes("hostMemory", &Resources::host_memory_bytes, 1, kMaxMemory),
          {"pids", [](const Cursor& at, Resources& into) {
             if (std::uint64_t pids = 0; read_whole(at, kMinPids, kMaxPids, pids)) into.pids = static_cast<std::uint32_t>(pids);
           },
           false, shapes::whole(kMinPids, kMaxPids)}};
}

void read_resources(const Cursor& at, ModelSpec& into) {
  static const Table<Resources> table = resources_table();
  read_table(at, table, into.resources);
  if (into.resources.devices > 1 && into.resources.device == DeviceKind::cpu)
    at.at("devices").refuse(fmt::format("{} is more than a node has: it has one cpu device; set resources.device to cuda, or leave devices out",
                                        into.resources.devices));
}

Table<WeightsCache> cache_table() {
  return {choice<WeightsCache, bool>("pin", &WeightsCache::pin, {{"false", false}, {"true", true}})};
}

void read_hf(const Cursor& at, Source& into) {
  std::string text;
  if (!read_text(at, text)) return;
  const auto ref = parse_hub_ref(text);
  if (!ref.ok()) return at.refuse(ref.error().message);
  into.hf = to_string(*ref);
}

void read_url(const Cursor& at, Source& into) {
  std::string text;
  if (!read_text(at, text)) return;
  if (const auto url = parse_url(text); !url.ok()) return at.refuse(url.error().message);
  into.url = text;
}

void read_sha256(const Cursor& at, Source& into) {
  constexpr std::size_t kDigits = 64;
  std::string text;
  if (!read_text(at, text)) return;
  for (char& c : text)
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c + ('a' - 'A'));
  if (text.size() != kDigits || text.find_first_not_of("0123456789abcdef") != std::string::npos)
    return at.refuse("is no SHA-256; give 64 hexadecimal digits, as sha256sum prints them");
  into.sha256 = text;
}

Table<Source> source_table(const std::string& base_directory) {
  return {path("path", &Source::path, base_directory),
          {"hf", read_hf, false, shapes::text()},
          {"url", read_url, false, shapes::text()},
          {"sha256", read_sha256, false, shapes::text()},
          path("pulledTo", &Source::path, "")};
}

void read_source(const Cursor& at, const std::string& base_directory, Source& into) {
  read_table(at, source_table(base_directory), into);
  if (at.value.kind != YamlValue::Kind::mapping) return;
  const auto given = [&](std::string_view wanted) {
    return std::any_of(at.value.keys.begin(), at.value.keys.end(), [&](const YamlValue::Key& key) { return key.text == wanted; });
  };
  if (given("hf") || given("url")) {
    if (given("path")) at.at("path").refuse("weights have one source; give path, or hf, or url");
  } else if (given("pulledTo")) {
    at.at("pulledTo").refuse("is the server's to say; give path, hf or url");
  }
  // A place that was refused is not missed as well.
  if (given("hf") != !into.hf.empty() || given("url") != !into.url.empty() || (given("path") && into.path.empty())) return;
  if (const std::string problem = problem_of(into); !problem.empty()) at.refuse(problem);
}

Table<Queue> queue_table() {
  return {whole("maxLength", &Queue::max_length, 0, 100'000),
          duration("timeout", &Queue::timeout, Millis(1), hours(1))};
}

const Table<Scaling>& scaling_table() {
  static const Table<Scaling> table{whole("minReplicas", &Scaling::min_replicas, 0, 1'000),
                                    whole("maxReplicas", &Scaling::max_replicas, 1, 1'000),
                                    whole("targetConcurrency", &Scaling::target_concurrency, 1, 1'024),
                                    duration("idleTimeout", &Scaling::idle_timeout, Seconds(0), hours(24 * 365)),
                                    nested("queue", &Scaling::queue, queue_table())};
  return table;
}

void read_scaling(const Cursor& at, ModelSpec& into) {
  read_table(at, scaling_table(), into.scaling);
  if (into.scaling.min_replicas > into.scaling.max_replicas)
    at.at("minReplicas")
        .refuse(fmt::format("{} is more than maxReplicas, which is {}", into.scaling.min_replicas,
                            into.scaling.max_replicas));
}

template <typename T>
Field<T> mode(Mode T::*member) {
  return choice<T, Mode>("mode", member,
                         {{to_string(Mode::automatic), Mode::automatic},
                          {to_string(Mode::never), Mode::never},
                          {to_string(Mode::always), Mode::always}});
}

Table<ModelSpec> model_table(const std::string& base_directory) {
  const Table<ModelSpec> spec{
      required<ModelSpec>({"source", [base_directory](const Cursor& at, ModelSpec& into) { read_source(at, base_directory, into.source); }, false,
                           shape_of(source_table(base_directory))}),
      {"base", read_base, false, base_shape()},
      {"adapters", read_adapters, false, adapters_shape()},
      {"aliases", read_aliases, false, aliases_shape()},
      choice<ModelSpec, EngineKind>("engine", &ModelSpec::engine,
                                    {{to_string(EngineKind::llama_cpp), EngineKind::llama_cpp},
                                     {to_string(EngineKind::vllm), EngineKind::vllm},
                                     {to_string(EngineKind::sglang), EngineKind::sglang},
                                     {to_string(EngineKind::command), EngineKind::command}}),
      path("enginePath", &ModelSpec::engine_path, base_directory),
      {"image", read_image(base_directory), false, shapes::text()},
      {"imageDigest", read_image_digest, false, shapes::text()},
      {"command", read_command, false, words_shape()},
      {"readyPath", read_ready_path, false, shapes::text()},
      {"args", read_args, false, words_shape()},
      {"env", read_env, false, shapes::map(kScalar)},
      {"secrets", read_secrets, false, secrets_shape()},
      nested("network", &ModelSpec::network, network_table()),
      choice<ModelSpec, std::optional<SandboxKind>>("sandbox", &ModelSpec::sandbox,
                                                    {{to_string(SandboxKind::runc), SandboxKind::runc},
                                                     {to_string(SandboxKind::runsc), SandboxKind::runsc}}),
      {"parameters", read_parameters, false, parameters_shape()},
      {"resources", read_resources, false, shape_of(resources_table())},
      choice<ModelSpec, Priority>("priority", &ModelSpec::priority,
                                  {{to_string(Priority::low), Priority::low},
                                   {to_string(Priority::normal), Priority::normal},
                                   {to_string(Priority::high), Priority::high}}),
      {"scaling", read_scaling, false, shape_of(scaling_table())},
      nested("cache", &ModelSpec::cache, cache_table()),
      nested("standby", &ModelSpec::standby,
             Table<Standby>{mode(&Standby::mode), duration("timeout", &Standby::timeout, Seconds(0), hours(24 * 365)),
                            choice<Standby, SleepingWeights>("weights", &Standby::weights,
                                                             {{to_string(SleepingWeights::automatic), SleepingWeights::automatic},
                                                              {to_string(SleepingWeights::host), SleepingWeights::host},
                                                              {to_string(SleepingWeights::disk), SleepingWeights::disk}})}),
      nested("snapshot", &ModelSpec::snapshot, Table<Snapshot>{mode(&Snapshot::mode)}),
      duration("startDeadline", &ModelSpec::start_deadline, Millis(100), hours(1)),
      duration("requestTimeout", &ModelSpec::request_timeout, Seconds(1), hours(24)),
      duration("stallTimeout", &ModelSpec::stall_timeout, Millis(100), hours(1))};
  Table<ModelSpec> table = header_fields<ModelSpec>("Model", true);
  table.push_back(required<ModelSpec>({"metadata", read_metadata, false, shape_of(metadata_table())}));
  table.push_back(required(group("spec", spec)));
  return table;
}

ModelSpec read_model(std::string_view text, const std::string& base_directory, Problems& problems) {
  ModelSpec spec;
  const auto root = read_yaml(text, problems);
  if (!root) return spec;
  const Cursor at{*root, "", problems};
  if (read_header(at, "Model", true)) {
    read_table(at, model_table(base_directory), spec);
    if (has_key(at, "spec")) {
      check_engine(at.at("spec"), spec);
      check_secrets(at.at("spec"), spec);
      check_aliases(at.at("spec"), spec);
      check_image(at.at("spec"), spec);
      check_adapter(at.at("spec"), spec);
    }
  }
  return spec;
}

}  // namespace

std::string model_schema() { return shapes::document("A model, as thaw deploys it", shape_of(model_table("/"))); }

const char* to_string(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::cpu:
      return "cpu";
    case DeviceKind::cuda:
      return "cuda";
  }
  return "cpu";
}

const char* to_string(EngineKind kind) {
  switch (kind) {
    case EngineKind::llama_cpp:
      return "llama.cpp";
    case EngineKind::vllm:
      return "vllm";
    case EngineKind::sglang:
      return "sglang";
    case EngineKind::command:
      return "command";
  }
  return "llama.cpp";
}

const char* to_string(Priority priority) {
  switch (priority) {
    case Priority::low:
      return "low";
    case Priority::normal:
      return "normal";
    case Priority::high:
      return "high";
  }
  return "normal";
}

const char* to_string(SleepingWeights weights) {
  switch (weights) {
    case SleepingWeights::automatic:
      return "auto";
    case SleepingWeights::host:
      return "host";
    case SleepingWeights::disk:
      return "disk";
  }
  return "auto";
}

const char* to_string(Mode mode) {
  switch (mode) {
    case Mode::automatic:
      return "auto";
    case Mode::never:
      return "never";
    case Mode::always:
      return "always";
  }
  return "auto";
}

base::Result<ModelSpec> parse_model(std::string_view text, const std::string& file, const std::string& base_directory) {
  Problems problems;
  ModelSpec spec = read_model(text, base_directory, problems);
  if (!problems.empty()) return problems.to_error(file);
  return spec;
}

// The rules stand once, in the tables above: a spec is right when what would be stored of it can be read back.
base::Status validate(const ModelSpec& spec) {
  Problems problems;
  read_model(to_json(spec), "", problems);
  if (!problems.empty()) return problems.to_error("");
  return {};
}

}  // namespace thaw::spec
