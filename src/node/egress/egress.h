#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "node/egress/egress_proxy.h"
#include "node/oci/oci_tools.h"
#include "wire/messages.h"

namespace thaw::node {

class Sandbox;

/// The node's proxies: one for each instance whose model lists where it may connect to, and one for each run of skopeo. docs/images.md#egress.
/// Any thread. Outlives all sandboxes.
class Egress {
 public:
  static constexpr std::uint16_t kPort = 3128;

  /// Of one instance: the proxy runs until this is let go of.
  struct Way {
    std::shared_ptr<const void> lease;
    std::string url;  ///< as HTTPS_PROXY has it: "http://127.0.0.1:3128"
  };
  /// For an instance in `sandbox`, before its engine runs. Fails with invalid for what stands in no list; io.
  base::Result<Way> open(const wire::StartInstance& start, const Sandbox& sandbox);

  /// A namespace for skopeo, with a proxy to public addresses and to those registries that may be at others.
  base::Result<std::unique_ptr<RegistryNetwork>> registry_network(const spec::ImageRef& ref,
                                                                  const spec::ServerConfig::Node::ContainerImages& settings);

  struct Refused {
    base::ModelName model;
    base::TenantName tenant;
    base::InstanceId instance;
    EgressRefusal refusal;
  };
  /// Who is told of what engines were refused, on a thread of a proxy's; must not block for long. Empty: nobody, once this returns.
  void on_refused(std::function<void(const Refused&)> told);

  [[nodiscard]] const EgressCounts& counts() const { return *counts_; }

 private:
  void tell(const Refused& refused);

  std::shared_ptr<EgressCounts> counts_ = std::make_shared<EgressCounts>();
  std::mutex mutex_;
  std::function<void(const Refused&)> told_;
  ConnectionThreads threads_;
};

}  // namespace thaw::node
