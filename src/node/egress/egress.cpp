#include "node/egress/egress.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <thread>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/endpoint.h"
#include "node/sandbox/netlink.h"
#include "node/sandbox/network.h"
#include "node/sandbox/sandbox.h"
#include "spec/trust.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr const char* kLoopback = "127.0.0.1";
constexpr std::uint16_t kHttpsPort = 443;

/// "registry.lan:5000" -> host and port.
std::pair<std::string, std::uint16_t> host_and_port(const std::string& registry) {
  const std::size_t bracket = registry.find(']');
  const std::size_t colon = registry.find(':', bracket == std::string::npos ? 0 : bracket);
  std::uint16_t port = kHttpsPort;
  if (colon != std::string::npos) std::from_chars(registry.data() + colon + 1, registry.data() + registry.size(), port);
  std::string host = registry.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  return {host, port};
}

/// What no Go program asks a proxy for.
bool is_loopback(const std::string& host) {
  return host == "localhost" || host.starts_with("127.") || host == "::1";
}

/// A namespace of its own with what listens in it; nothing else is in there.
class OneRun final : public RegistryNetwork {
 public:
  OneRun(Fd space, std::unique_ptr<EgressProxy> proxy, std::unique_ptr<EgressProxy> loopback)
      : space_(std::move(space)), proxy_(std::move(proxy)), loopback_(std::move(loopback)) {}

  [[nodiscard]] std::string namespace_path() const override { return fmt::format("/proc/{}/fd/{}", ::getpid(), space_.get()); }
  [[nodiscard]] std::vector<std::string> env() const override {
    const std::string url = fmt::format("http://{}:{}", kLoopback, Egress::kPort);
    return {"HTTP_PROXY=" + url, "HTTPS_PROXY=" + url};
  }
  [[nodiscard]] std::string refusal() const override {
    const std::string why = proxy_->last_refusal();
    return why.empty() ? why : why + "; if this registry is meant to be there, add it to node.containerImages.privateRegistries";
  }
  [[nodiscard]] std::string failure() const override { return proxy_->last_failure(); }

 private:
  Fd space_;
  std::unique_ptr<EgressProxy> proxy_, loopback_;
};

struct Listening {
  Fd space, proxy, loopback;
};

/// `loopback_port` 0: none.
base::Result<Listening> make_namespace(std::uint16_t loopback_port) {
  base::Result<Listening> result = Error{ErrorKind::internal, "not tried"};
  const auto make = [&]() -> base::Result<Listening> {
    Listening made;
    if (::unshare(CLONE_NEWNET) != 0) return base::errno_error("cannot make a network namespace", errno);
    THAW_ASSIGN_OR_RETURN(Netlink netlink, Netlink::open());
    THAW_RETURN_IF_ERROR(netlink.bring_up("lo"));
    THAW_ASSIGN_OR_RETURN(made.proxy, listen_here(kLoopback, Egress::kPort));
    if (loopback_port != 0) {
      THAW_ASSIGN_OR_RETURN(made.loopback, listen_here(kLoopback, loopback_port));
    }
    made.space = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!made.space) return base::errno_error("cannot open a network namespace", errno);
    return made;
  };
  std::thread([&] { result = make(); }).join();  // the thread is spoilt for anything else
  return result;
}

}  // namespace

void Egress::on_refused(std::function<void(const Refused&)> told) {
  const std::lock_guard lock(mutex_);
  told_ = std::move(told);
}

void Egress::tell(const Refused& refused) {
  const std::lock_guard lock(mutex_);
  if (told_) told_(refused);
}

base::Result<Egress::Way> Egress::open(const wire::StartInstance& start, const Sandbox& sandbox) {
  EgressProxy::Options options;
  for (const std::string& text : start.model.network.egress) {
    THAW_ASSIGN_OR_RETURN(spec::EgressRule rule, spec::parse_egress_rule(text));
    options.policy.rules.push_back(std::move(rule));
  }
  // A tenant's word opens no way into the operator's own networks.
  options.policy.private_by_rule = spec::trust_of(start.tenant) == spec::Trust::own;
  options.counts = counts_;
  options.on_refusal = [this, model = start.model.name, tenant = start.tenant, instance = start.instance](const EgressRefusal& refusal) {
    spdlog::warn("instance {} of {} was refused a connection to {}: {}", instance.value(), model.str(), refusal.target, refusal.why);
    tell({model, tenant, instance, refusal});
  };
  // runc: in the engine's own namespace, where loopback is. gVisor's loopback is inside it: at the node's end of its cable.
  const auto endpoint = base::parse_endpoint(sandbox.socket_path());
  const bool cable = endpoint.ok() && endpoint->ipv4.starts_with("169.254.");
  const char* const address = cable ? kOuterAddress : kLoopback;
  const std::string space = cable ? endpoint->namespace_path : fmt::format("/proc/{}/ns/net", sandbox.init_pid());
  THAW_ASSIGN_OR_RETURN(Fd listener, listen_in_namespace(space, address, kPort));
  THAW_ASSIGN_OR_RETURN(std::unique_ptr<EgressProxy> proxy, EgressProxy::start(std::move(listener), std::move(options), threads_));
  return Way{std::shared_ptr<const void>(std::move(proxy)), fmt::format("http://{}:{}", address, kPort)};
}

base::Result<std::unique_ptr<RegistryNetwork>> Egress::registry_network(const spec::ImageRef& ref,
                                                                        const spec::ServerConfig::Node::ContainerImages& settings) {
  EgressPolicy policy{.rules = {}, .everything_public = true, .private_hosts = settings.private_registries};
  policy.private_hosts.insert(policy.private_hosts.end(), settings.insecure_registries.begin(), settings.insecure_registries.end());
  const auto [host, port] = host_and_port(ref.host);
  const bool listed =
      std::any_of(policy.private_hosts.begin(), policy.private_hosts.end(), [&](const std::string& one) { return one == ref.host || one == host; });
  const bool loopback = is_loopback(host);
  if (loopback && !listed)
    return Error{
        ErrorKind::denied,
        fmt::format("cannot fetch from {}: it is this machine; if a registry is meant to be there, add it to node.containerImages.privateRegistries",
                    ref.host)};
  if (loopback && port == kPort)
    return Error{ErrorKind::invalid,
                 fmt::format("cannot fetch from {}: a registry on this machine cannot have port {}, which our proxy has", ref.host, kPort)};
  THAW_ASSIGN_OR_RETURN(Listening made, make_namespace(loopback ? port : std::uint16_t{0}));
  THAW_ASSIGN_OR_RETURN(auto proxy, EgressProxy::start(std::move(made.proxy), {.policy = std::move(policy)}, threads_));
  std::unique_ptr<EgressProxy> direct;
  if (loopback) {
    const std::string address = host == "localhost" || host == "::1" ? kLoopback : host;
    THAW_ASSIGN_OR_RETURN(direct, EgressProxy::start(std::move(made.loopback), {.policy = {}, .only_target = std::pair{address, port}}, threads_));
  }
  return std::unique_ptr<RegistryNetwork>(std::make_unique<OneRun>(std::move(made.space), std::move(proxy), std::move(direct)));
}

}  // namespace thaw::node
