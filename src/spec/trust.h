#pragma once

#include "base/ids.h"
#include "base/result.h"
#include "spec/model_spec.h"

/// The problem: a sandbox is as strong as what it has to hold. The operator's own models run under runc, which is fast and leaves the host's kernel to
/// be attacked through a filter; those of tenants, who trust neither the operator nor each other, get a kernel of their own.
namespace thaw::spec {

/// The tenant whose models are the operator's own.
inline constexpr const char* kOperatorsTenant = "default";

[[nodiscard]] inline bool is_operators(const base::TenantName& tenant) { return tenant.str() == kOperatorsTenant; }

enum class Trust {
  own,      ///< the operator's: he chose the model and its engine
  foreign,  ///< a tenant's
};
[[nodiscard]] inline Trust trust_of(const base::TenantName& tenant) { return is_operators(tenant) ? Trust::own : Trust::foreign; }

/// What the operator lets whom run in.
struct SandboxPolicy {
  SandboxKind own = SandboxKind::runc;       ///< node.sandbox
  SandboxKind tenants = SandboxKind::runsc;  ///< node.tenantSandbox; never weaker than `own` is
};

/// True when `kind` holds back at least as much as `least`: runsc, then runc, then none.
[[nodiscard]] bool is_at_least(SandboxKind kind, SandboxKind least);

/// What a model of this trust runs in: its own choice (ModelSpec::sandbox), else the policy's. Fails (denied) with a choice that is weaker than the
/// policy allows a tenant; the operator may choose what he likes. A server without sandboxes (own: none) is for development: everything runs so.
[[nodiscard]] base::Result<SandboxKind> sandbox_kind_for(Trust trust, const ModelSpec& model, const SandboxPolicy& policy);

}  // namespace thaw::spec
