#include "cli/serve.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>

#include "audit/audit_log.h"
#include "base/revision.h"
#include "base/units.h"
#include "base/version.h"
#include "cli/credentials.h"
#include "cli/exit_code.h"
#include "cli/files.h"
#include "cli/install_paths.h"
#include "cli/service_manager.h"
#include "controller/controller.h"
#include "controller/model_files.h"
#include "controller/pulls.h"
#include "controller/rollouts.h"
#include "gateway/oidc/door.h"
#include "gateway/admin_container_images.h"
#include "gateway/server.h"
#include "net/worker.h"
#include "node/egress/egress.h"
#include "node/agent.h"
#include "node/pull/settings.h"
#include "node/weights/source_files.h"
#include "observe/json_log.h"
#include "spec/parse.h"
#include "store/api_key.h"

namespace thaw::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;
using base::Result;
using base::Status;

constexpr std::uint64_t kInstanceIdsPerStart = 1'000'000;
constexpr std::size_t kMaxConfigBytes = 1U << 20U;

bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0; }

Result<spec::ServerConfig> load_config(const ServeOptions& options) {
  spec::ServerConfig config;
  if (!options.config_path.empty()) {
    THAW_ASSIGN_OR_RETURN(const std::string text, read_text_file(options.config_path, kMaxConfigBytes));
    THAW_ASSIGN_OR_RETURN(config, spec::parse_server_config(text, options.config_path, config));
  }
  if (options.data_dir) config.data_dir = *options.data_dir;
  if (options.listen) THAW_RETURN_IF_ERROR(spec::parse_listen(*options.listen, config));
  if (options.sandbox) config.node.sandbox = *options.sandbox;
  if (options.log_level) config.log_level = *options.log_level;
  config.log_json = config.log_json || options.log_json;
  config.dev = options.dev;
  config.data_dir = fs::absolute(config.data_dir).lexically_normal().string();
  if (config.dev && config.tls.on && !is_loopback(config.tls.listen_host))
    return Error{ErrorKind::invalid, "--dev serves without API keys and therefore only on a loopback address, not on " + config.tls.listen_host + " (tls.listen); leave --dev out"};
  if (config.dev && !is_loopback(config.listen_host))
    return Error{ErrorKind::invalid, "--dev serves without API keys and therefore only on a loopback address, not on " + config.listen_host +
                                         "; leave --dev out, or use --listen 127.0.0.1:7420"};
  return config;
}

/// Also while others log: levels are atomic, and sinks change their form under a lock.
void tune_logging(spdlog::logger& logger, const spec::ServerConfig& config) {
  logger.set_level(spdlog::level::from_str(config.log_level == "warn" ? "warning" : config.log_level));
  if (config.log_json) {
    logger.set_formatter(observe::make_json_formatter());
  } else {
    logger.set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%-5l%$ %v");
  }
}

void set_up_logging(const spec::ServerConfig& config) {
  auto logger = std::make_shared<spdlog::logger>("thaw", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  tune_logging(*logger, config);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

Status make_data_dir(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return Error{ErrorKind::io, "cannot create the data directory " + path + ": " + error.message() + "; choose another with --data-dir"};
  // Sandboxed engines reach their sockets below it as other users, so it can be passed through but not read.
  if (chmod(path.c_str(), 0711) < 0) return base::errno_error("cannot set the mode of " + path, errno);
  return {};
}

std::string url_of(const spec::ServerConfig& config, std::uint16_t port) {
  std::string host = config.listen_host;
  if (host.empty() || host == "0.0.0.0") host = "127.0.0.1";
  if (host == "::") host = "::1";
  return fmt::format("http://{}:{}", host.find(':') == std::string::npos ? host : "[" + host + "]", port);
}

Result<std::unique_ptr<audit::AuditLog>> open_audit_log(const spec::ServerConfig& config) {
  audit::LogOptions options;
  options.directory = config.data_dir + "/audit";
  options.segment_bytes = config.audit.segment_bytes;
  options.retention_days = config.audit.retention_days;
  options.export_path = config.audit.export_path;
  options.export_interval = config.audit.export_interval;
  options.unix_ms = net::unix_ms;
  options.warn = [](const std::string& text) { spdlog::error("{}", text); };
  return audit::AuditLog::open(std::move(options));
}

/// nullptr when usage is not recorded.
Result<std::unique_ptr<store::UsageJournal>> open_usage_journal(const spec::ServerConfig& config, store::UsageDatabase& database) {
  if (!config.usage.record) return std::unique_ptr<store::UsageJournal>();
  store::UsageJournal::Options options;
  options.path = config.usage.journal_path.empty() ? config.data_dir + "/usage.journal" : config.usage.journal_path;
  options.unix_ms = net::unix_ms;
  options.warn = [](const std::string& text) { spdlog::error("{}", text); };
  THAW_ASSIGN_OR_RETURN(auto journal, store::UsageJournal::open(std::move(options), database));
  if (journal->interrupted() > 0)
    spdlog::warn("{} requests were open when the server died; their usage is recorded as interrupted", journal->interrupted());
  return journal;
}

/// What engines were refused is on record like what clients were.
void record_egress(audit::AuditLog& log, const node::Egress::Refused& refused) {
  audit::Record record;
  record.event = audit::Event::refused;
  record.action = "egress";
  record.who = "model:" + refused.model.str();
  record.subject = refused.refusal.target;
  record.detail = refused.refusal.why;
  log.append(std::move(record), [](const Status& written) {
    if (!written.ok()) spdlog::error("{}", written.error().message);
  });
}

/// For as long as there is a log: engines may outlive it by a moment.
class EgressOnRecord {
 public:
  EgressOnRecord(node::Egress& egress, audit::AuditLog& log) : egress_(egress) {
    egress_.on_refused([&log](const node::Egress::Refused& refused) { record_egress(log, refused); });
  }
  ~EgressOnRecord() { egress_.on_refused({}); }
  EgressOnRecord(const EgressOnRecord&) = delete;
  EgressOnRecord& operator=(const EgressOnRecord&) = delete;

 private:
  node::Egress& egress_;
};

/// Making the first key, as an act in the audit log.
Status record_first_key(audit::AuditLog& log, audit::Event event, const std::string& subject) {
  audit::Record record;
  record.event = event;
  record.action = "key.create";
  record.who = "local";
  record.subject = subject;
  record.detail = "the first key";
  return log.write(std::move(record));
}

/// A first key if there is none: returned once, never stored in clear by the store.
Result<std::string> first_key(store::Store& store, audit::AuditLog& log) {
  THAW_ASSIGN_OR_RETURN(const auto keys, store.keys());
  if (!keys.empty()) return std::string();
  store::StoredKey key;
  key.name = "first key";
  key.tenant = base::TenantName(std::string(base::kDefaultTenant));
  key.role = spec::Role::admin;
  key.platform = true;
  key.created_unix_ms = net::unix_ms();
  THAW_ASSIGN_OR_RETURN(const std::string secret, store::new_key_secret());
  THAW_ASSIGN_OR_RETURN(key.salt, store::new_salt());
  key.hash = store::hash_secret(key.salt, secret);
  THAW_RETURN_IF_ERROR(record_first_key(log, audit::Event::begun, {}));
  THAW_ASSIGN_OR_RETURN(const base::KeyId id, store.add_key(key));
  // Shown even when this fails: nobody would ever see the key else, and that one was made is on record.
  if (const Status done = record_first_key(log, audit::Event::done, fmt::format("key:{}", id.value())); !done.ok()) spdlog::error("{}", done.error().message);
  return store::format_key(id, secret);
}

/// Leaves URL and key where this machine's CLI looks. The copy in the data directory brings the key back after another server's start took that place.
void tell_cli(const spec::ServerConfig& config, const std::string& url, const std::string& new_key) {
  const std::string kept = config.data_dir + "/client.json";
  Credentials credentials{url, new_key};
  if (new_key.empty()) {
    const auto before = load_credentials(kept);
    if (!before.ok()) return;
    credentials.api_key = before->api_key;
  }
  const auto save = [&](const std::string& path) {
    if (path.empty()) return;
    if (const Status saved = save_credentials(path, credentials); !saved.ok()) spdlog::warn("{}", saved.error().message);
  };
  save(kept);
  if (!has_service_manager(process_environment())) save(credentials_path(process_environment()));
}

/// SIGTERM, SIGINT and SIGHUP as loop events. The signals must be blocked in every thread.
class Signals final : public net::Pollable {
 public:
  static Result<std::unique_ptr<Signals>> watch(net::Loop& loop, const sigset_t& set, std::function<void(int)> handler) {
    const int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) return base::errno_error("cannot watch signals", errno);
    std::unique_ptr<Signals> signals(new Signals(loop, fd, std::move(handler)));
    THAW_RETURN_IF_ERROR(loop.watch(fd, EPOLLIN, signals.get()));
    return signals;
  }
  ~Signals() {
    loop_.unwatch(fd_, this);
    close(fd_);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  void on_events(std::uint32_t /*events*/) override {
    signalfd_siginfo info{};
    if (read(fd_, &info, sizeof info) == sizeof info) handler_(static_cast<int>(info.ssi_signo));
  }

 private:
  Signals(net::Loop& loop, int fd, std::function<void(int)> handler) : loop_(loop), fd_(fd), handler_(std::move(handler)) {}
  net::Loop& loop_;
  int fd_;
  std::function<void(int)> handler_;
};

/// Of all the files at a model's source.
std::uint64_t weights_on_disk(const std::string& source) {
  std::uint64_t bytes = 0;
  for (const std::string& file : node::source_files(source)) {
    std::error_code error;
    const auto size = fs::file_size(file, error);
    if (!error) bytes += size;
  }
  return bytes;
}

/// The models of before, as they were. One that cannot be read any more is kept in the store and said, not dropped.
Status wake_models(store::Store& store, controller::Controller& controller) {
  THAW_ASSIGN_OR_RETURN(const auto models, store.models());
  for (const auto& stored : models) {
    auto parsed = spec::parse_model(stored.spec_json, "store:" + stored.name.str(), "/");
    if (!parsed.ok()) {
      spdlog::error("model {} cannot be read from the store and is left out: {}", stored.name.str(), parsed.error().message);
      continue;
    }
    parsed->name = stored.name;  // with the revision, which a spec's text has not
    THAW_ASSIGN_OR_RETURN(const std::uint32_t usage_ref, store.model_ref(base::model_of(stored.name)));
    const std::uint64_t weights_bytes = weights_on_disk(parsed->source.path);
    if (weights_bytes == 0 && parsed->source.remote()) continue;  // pulled again: controller/pulls.h
    if (weights_bytes == 0) spdlog::warn("{}: {} is not there, or empty", stored.name.str(), parsed->source.path);
    controller.deploy({std::move(parsed).value(), weights_bytes, usage_ref, stored.created_unix_ms, stored.updated_unix_ms,
                       stored.memory_estimated, nullptr});
  }
  if (!models.empty()) spdlog::info("{} models found again", models.size());  // with their revisions that serve
  return {};
}

/// For the tokens of an identity provider; null where none is configured. Keys in a file must be there; a provider that cannot be reached yet is
/// asked again.
Result<std::unique_ptr<gateway::oidc::Door>> token_door(net::Loop& loop, const spec::ServerConfig& config) {
  if (config.oidc.issuer.empty()) return std::unique_ptr<gateway::oidc::Door>();
  auto door = std::make_unique<gateway::oidc::Door>(loop, config.oidc, [place = config.oidc.jwks] { return gateway::oidc::read_key_set(place); });
  const Status started = door->start();
  if (!started.ok() && config.oidc.jwks.starts_with("/")) return started.error().within("auth.oidc.jwks");
  return door;
}

node::AgentConfig agent_config(const spec::ServerConfig& config, std::string init_path) {
  char host[256] = "localhost";
  gethostname(host, sizeof host - 1);
  return {base::NodeName(host),     config.data_dir,           std::move(init_path), config.node, config.cpu_memory_bytes,
          config.cuda_reserve_bytes, config.engine_paths};
}

/// The service manager waits until it hears that the server is ready again.
net::Task<void> reload_by_signal(gateway::Server& server) {
  tell_reloading(process_environment());
  co_await server.reload_by_signal();
  tell_service_manager(process_environment(), "READY=1");
}

/// What follows a configuration that was read again, beside the gateway.
void follow(const spec::ServerConfig& config, controller::Pulls& pulls) {
  tune_logging(*spdlog::default_logger(), config);
  auto options = node::pull::puller_options(config.sources, process_environment());
  if (options.ok()) pulls.puller().set_options(*std::move(options));
  else spdlog::error("sources: {}", options.error().message);
}

void greet(const spec::ServerConfig& config, const std::string& url, const std::string& new_key) {
  if (config.node.sandbox == spec::SandboxKind::none)
    spdlog::warn("--sandbox=none: engines run UNSANDBOXED, as this user, with this user's files and network. For development only.");
  if (config.dev) spdlog::warn("--dev: NO API KEY is asked for. Anybody on this machine can use and administer this server.");
  if (!new_key.empty()) {
    fmt::print(stderr,
               "\n  A first API key was made. It is shown this once:\n\n    {}\n\n"
               "  The thaw command on this machine finds it by itself; other clients send it as \"Authorization: Bearer KEY\".\n\n",
               new_key);
  }
  spdlog::info("thaw {} serves on {} (OpenAI API at {}/v1), data in {}", base::kVersion, url, url, config.data_dir);
}

Result<int> serve(const ServeOptions& options) {
  THAW_ASSIGN_OR_RETURN(const spec::ServerConfig config, load_config(options));
  set_up_logging(config);
  THAW_ASSIGN_OR_RETURN(std::string init_path, find_init());
  THAW_RETURN_IF_ERROR(make_data_dir(config.data_dir));

  sigset_t signal_set;
  sigemptyset(&signal_set);
  sigaddset(&signal_set, SIGTERM);
  sigaddset(&signal_set, SIGINT);
  sigaddset(&signal_set, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signal_set, nullptr);  // before the first thread, so that all inherit it
  signal(SIGPIPE, SIG_IGN);

  THAW_ASSIGN_OR_RETURN(const auto loop, net::Loop::create());
  observe::Metrics metrics;
  std::unique_ptr<controller::Controller> controller;
  // Declared after what its events reach and destroyed before it.
  node::Agent agent(agent_config(config, std::move(init_path)), [&loop, &controller](wire::NodeEvent event) {
    loop->post([&controller, event = std::move(event)] {
      if (controller) controller->node_event(event);
    });
  });
  THAW_ASSIGN_OR_RETURN(const wire::NodeHello hello, agent.open());

  THAW_ASSIGN_OR_RETURN(const auto store, store::open_sqlite(config.data_dir + "/thaw.db"));
  THAW_ASSIGN_OR_RETURN(const auto usage_database, store::UsageDatabase::open(config.data_dir + "/usage.db", config.data_dir + "/thaw.db",
                                                                              {config.usage.retention_days, config.usage.daily_retention_days}));
  THAW_ASSIGN_OR_RETURN(const auto usage_journal, open_usage_journal(config, *usage_database));
  THAW_ASSIGN_OR_RETURN(const auto audit_log, open_audit_log(config));
  const EgressOnRecord egress_on_record(agent.egress(), *audit_log);
  THAW_ASSIGN_OR_RETURN(const std::string new_key, config.dev ? Result<std::string>(std::string()) : first_key(*store, *audit_log));
  THAW_ASSIGN_OR_RETURN(auto keys, store->keys());
  THAW_ASSIGN_OR_RETURN(const auto stored_tenants, store->tenants());
  gateway::Tenants tenants;
  THAW_RETURN_IF_ERROR(tenants.load(stored_tenants, loop->now()));
  THAW_ASSIGN_OR_RETURN(const std::uint64_t first_instance, store->reserve_ids("instance", kInstanceIdsPerStart));

  control::Policy policy;
  policy.stop_grace = config.node.stop_grace;
  policy.automatic_idle = config.automatic_idle;
  controller = std::make_unique<controller::Controller>(
      *loop, metrics, policy, first_instance,
      [&agent](const base::NodeName& /*node*/, wire::NodeCommand command) { agent.submit(std::move(command)); });
  controller->node_joined(hello);
  THAW_RETURN_IF_ERROR(wake_models(*store, *controller));
  for (const auto& [name, model] : controller->models()) gateway::admin::want_container_image(agent, model->spec);

  net::Worker store_worker(*loop, 1);
  net::Worker files_worker(*loop, 2);
  net::Worker engines_worker(*loop, 1);
  controller::ModelFiles model_files({.loop = *loop,
                                      .controller = *controller,
                                      .store = *store,
                                      .store_worker = store_worker,
                                      .files_worker = files_worker,
                                      .metrics = metrics,
                                      .send = [&agent](wire::NodeCommand command) { agent.submit(std::move(command)); }});
  THAW_RETURN_IF_ERROR(model_files.load());
  controller::Rollouts rollouts({*loop, *controller, *store, store_worker, model_files});
  THAW_RETURN_IF_ERROR(rollouts.load());
  THAW_ASSIGN_OR_RETURN(node::pull::PullerOptions puller_options, node::pull::puller_options(config.sources, process_environment()));
  node::pull::BlobStore blobs(config.data_dir + "/store", config.sources.disk_budget_bytes);
  THAW_RETURN_IF_ERROR(blobs.open());
  controller::Pulls pulls({.loop = *loop,
                           .controller = *controller,
                           .store = *store,
                           .store_worker = store_worker,
                           .files_worker = files_worker,
                           .metrics = metrics,
                           .model_files = model_files,
                           .rollouts = &rollouts,
                           .blobs = blobs,
                           .options = std::move(puller_options)});
  THAW_RETURN_IF_ERROR(pulls.load());
  THAW_ASSIGN_OR_RETURN(const auto tokens, token_door(*loop, config));
  std::uint32_t process_tag = 0;
  if (getrandom(&process_tag, sizeof process_tag, 0) != sizeof process_tag) return base::errno_error("cannot get random bytes", errno);
  THAW_ASSIGN_OR_RETURN(const std::uint64_t usage_start, usage_database->begin_start(process_tag, net::unix_ms()));
  const gateway::UsageServices usage{usage_journal.get(), *usage_database, usage_start};
  gateway::Server server({*loop, *controller, *store, usage, *audit_log, metrics, store_worker, files_worker, engines_worker, agent, model_files, pulls, rollouts}, config, std::move(tenants), std::move(keys), tokens.get(), process_tag);
  server.set_reload({.read = [options] { return load_config(options); },
                     .check =
                         [](const spec::ServerConfig& read) {
                           const auto sources = node::pull::puller_options(read.sources, process_environment());
                           return sources.ok() ? Status() : Status(sources.error());
                         },
                     .follow = [&pulls](const spec::ServerConfig& running) { follow(running, pulls); }});
  THAW_RETURN_IF_ERROR(server.listen());
  const std::string url = url_of(config, server.port());
  if (!config.dev) tell_cli(config, url, new_key);
  greet(config, url, new_key);
  if (server.tls_port() != 0)
    spdlog::info("TLS on {}:{}{}", config.tls.listen_host, server.tls_port(), config.tls.client_ca.empty() ? "" : ", for clients with a certificate");

  THAW_ASSIGN_OR_RETURN(const auto signals, Signals::watch(*loop, signal_set, [&](int number) {
    if (number == SIGHUP) return net::spawn(reload_by_signal(server));
    if (server.draining()) {
      spdlog::warn("signal {} again: what still runs is cut", number);
      server.cut_connections();
      return;
    }
    tell_service_manager(process_environment(), "STOPPING=1");
    spdlog::info("signal {}: draining (at most {}; a second signal cuts)", number, base::format_duration(config.gateway.drain_timeout));
    server.drain([&loop] { loop->stop(); });
  }));
  tell_service_manager(process_environment(), "READY=1");
  loop->run();
  if (const Status written = store->touch_keys(server.keys().take_used()); !written.ok()) spdlog::warn("{}", written.error().message);
  spdlog::info("drained; stopping instances");
  return static_cast<int>(kExitOk);
}

}  // namespace

int run_serve(const ServeOptions& options) {
  const auto result = serve(options);
  if (result.ok()) return *result;
  fmt::print(stderr, "thaw serve: {}\n", result.error().message);
  return result.error().kind == ErrorKind::invalid ? kExitUsage : kExitFailure;
}

}  // namespace thaw::cli
