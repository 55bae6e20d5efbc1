#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "audit/audit_log.h"
#include "controller/controller.h"
#include "controller/model_files.h"
#include "controller/pulls.h"
#include "controller/rollouts.h"
#include "gateway/audit_trail.h"
#include "gateway/auth.h"
#include "gateway/certificates.h"
#include "gateway/connection.h"
#include "gateway/cors.h"
#include "gateway/request_log.h"
#include "gateway/routes.h"
#include "gateway/tenants.h"
#include "gateway/tls_front.h"
#include "net/loop.h"
#include "net/worker.h"
#include "node/agent.h"
#include "observe/metrics.h"
#include "spec/config_change.h"
#include "spec/server_config.h"
#include "store/sqlite/usage_database.h"
#include "store/store.h"
#include "store/usage_journal.h"

namespace thaw::gateway {

/// Where usage is recorded and read.
struct UsageServices {
  store::UsageJournal* journal = nullptr;  ///< nullptr: usage.record is off
  store::UsageDatabase& database;
  std::uint64_t start = 0;  ///< this server start's number in it
};

/// What the gateway works with; owned by whoever runs the server, outliving it.
struct Services {
  net::Loop& loop;
  controller::Controller& controller;
  store::Store& store;
  UsageServices usage;
  audit::AuditLog& audit;
  observe::Metrics& metrics;
  net::Worker& store_worker;  ///< one thread: what it is given is done in order
  net::Worker& files_worker;
  net::Worker& engines_worker;  ///< asks engines, which may hang: requests' bodies wait for the one above
  node::Agent& node;
  controller::ModelFiles& model_files;
  controller::Pulls& pulls;
  controller::Rollouts& rollouts;
};

/// The front door: accepts connections, finds out who asks and for what, and has the route's handler answer. Loop thread only.
class Server {
 public:
  /// `keys`: as the store has them; nobody is asked for one with config.dev. `tokens`: outlives the server; nullptr: none are taken.
  Server(Services services, spec::ServerConfig config, Tenants tenants, std::vector<store::StoredKey> keys, TokenDoor* tokens,
         std::uint32_t process_tag);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  base::Status listen();
  [[nodiscard]] std::uint16_t port() const { return listener_->port(); }

  /// 0: there is no TLS.
  [[nodiscard]] std::uint16_t tls_port() const { return tls_listener_ ? tls_listener_->port() : std::uint16_t{0}; }
  /// How the configuration is read again, by any thread, and what else than the gateway follows it (`running`: as it is then).
  struct Reload {
    std::function<base::Result<spec::ServerConfig>()> read;
    std::function<base::Status(const spec::ServerConfig& read)> check;     ///< before anything is changed; any thread
    std::function<void(const spec::ServerConfig& running)> follow;
  };
  void set_reload(Reload reload) { reload_ = std::move(reload); }
  /// SIGHUP, POST /admin/v1/reload: what can change in a running server is changed, or nothing at all when what was read cannot be used. TLS files are
  /// read again in any case.
  /// `mine`: whose request asks for it, which gets its answer whatever becomes of its certificate; null: nobody's.
  net::Task<base::Result<spec::ConfigChange>> reload(const Exchange* mine);
  /// The same for a signal: into the log and the audit log.
  net::Task<void> reload_by_signal();

  /// SIGTERM: what waits and what arrives is refused, running requests may end within gateway.drainTimeout and are cut then. `drained` is
  /// called once, when no connection is left.
  void drain(std::function<void()> drained);
  [[nodiscard]] bool draining() const { return draining_; }
  /// Ends every connection as if its client had left.
  void cut_connections();
  [[nodiscard]] std::size_t connections() const { return connections_.size(); }

  // --- for connections and handlers
  [[nodiscard]] const spec::ServerConfig& config() const { return config_; }
  net::Loop& loop() { return services_.loop; }
  Services& services() { return services_; }
  RequestLog& requests() { return requests_; }
  /// Asks registries, which may hang.
  net::Worker& images_worker() { return images_worker_; }
  AuditTrail& audit_trail() { return audit_trail_; }
  [[nodiscard]] const Cors& cors() const { return cors_; }
  Tenants& tenants() { return tenants_; }
  KeyRing& keys() { return keys_; }
  [[nodiscard]] const ClientCertificates& certificates() const { return certificates_; }
  /// Reads the keys from the store again: from then on a revoked one lets in nobody. Also after tenants were changed.
  net::Task<base::Status> reload_keys();
  /// Ends the connections on which requests of callers that `gone` picks are under way, but for `mine`'s (may be null).
  void cut_callers(const std::function<bool(const Caller&)>& gone, const Exchange* mine);
  [[nodiscard]] base::TimePoint started() const { return started_; }
  [[nodiscard]] std::uint64_t buffered_bytes() const { return buffered_bytes_; }

  void number(Exchange& exchange);
  /// Route and caller; an error is the answer.
  std::optional<ApiError> admit(Exchange& exchange);
  /// Whose things it is about, and whether its role may: after identify.
  std::optional<ApiError> authorize(Exchange& exchange);
  net::Task<void> handle(Exchange& exchange);
  bool charge_bytes(std::size_t bytes);
  void release_bytes(std::size_t bytes) { buffered_bytes_ -= bytes; }
  [[nodiscard]] ApiError out_of_buffers() const;
  void closed(Connection& connection);

 private:
  enum class Speech { plain, tls };
  void accept(int fd, std::string peer, Speech speech);
  std::optional<ApiError> admit_route(Exchange& exchange);
  std::optional<ApiError> identify(Exchange& exchange);
  void check_drained();
  void write_key_uses();
  void audit_reload(audit::Event event, std::string detail);

  Services services_;
  net::Worker images_worker_{services_.loop, 1};
  spec::ServerConfig config_;
  Tenants tenants_;
  KeyRing keys_;
  ClientCertificates certificates_;
  RequestLog requests_;
  AuditTrail audit_trail_;
  base::TimePoint started_;
  Cors cors_;
  std::unique_ptr<TlsFront> tls_;  ///< nullptr: there is none
  std::unique_ptr<net::Listener> listener_, tls_listener_;
  std::unordered_map<Connection*, std::unique_ptr<Connection>> connections_;
  std::uint64_t buffered_bytes_ = 0;
  bool draining_ = false;
  Reload reload_;
  std::function<void()> drained_;
  net::Timer drain_timer_;
  net::Timer uses_timer_;
};

}  // namespace thaw::gateway
