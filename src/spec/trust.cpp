#include "spec/trust.h"

#include <fmt/format.h>

namespace thaw::spec {
namespace {

int strength(SandboxKind kind) {
  switch (kind) {
    case SandboxKind::none:
      return 0;
    case SandboxKind::runc:
      return 1;
    case SandboxKind::runsc:
      return 2;
  }
  return 0;
}

}  // namespace

bool is_at_least(SandboxKind kind, SandboxKind least) { return strength(kind) >= strength(least); }

base::Result<SandboxKind> sandbox_kind_for(Trust trust, const ModelSpec& model, const SandboxPolicy& policy) {
  if (policy.own == SandboxKind::none) return SandboxKind::none;
  if (trust == Trust::own) return model.sandbox.value_or(policy.own);
  const SandboxKind least = is_at_least(policy.tenants, policy.own) ? policy.tenants : policy.own;
  const SandboxKind kind = model.sandbox.value_or(least);
  if (is_at_least(kind, least)) return kind;
  return base::Error{base::ErrorKind::denied,
                     fmt::format("cannot run {} under {}: tenants' models run under {} here (node.tenantSandbox); leave spec.sandbox out",
                                 model.name.str(), to_string(kind), to_string(least))};
}

}  // namespace thaw::spec
