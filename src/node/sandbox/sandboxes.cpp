#include "node/sandbox/sandboxes.h"

#include <unistd.h>

#include <spdlog/spdlog.h>

#include "node/sandbox/plain.h"

namespace thaw::node {

namespace {

void log_refusal(const RefusedCall& refused) {
  spdlog::warn("sandbox {}: {} (pid {}) was refused the system call {}", refused.sandbox,
               refused.program.empty() ? "a process" : refused.program, refused.pid, refused.call);
}

}  // namespace

base::Result<std::unique_ptr<Sandboxes>> Sandboxes::open(SandboxHome home, const spec::ServerConfig::Node& settings) {
  std::unique_ptr<Sandboxes> all(new Sandboxes(settings.sandbox));
  if (settings.sandbox == spec::SandboxKind::none) {
    spdlog::warn("--sandbox=none: engines run unprotected, as uid {}, and see the whole host; for development only",
                 ::geteuid());
    all->plain_ = std::make_unique<PlainMaker>(home);
    const base::Error none{base::ErrorKind::unavailable,
                           "this node runs without sandboxes (--sandbox=none); start it as root, without that option"};
    all->no_runc_ = all->no_runsc_ = none;
    all->pool_ = std::make_unique<SandboxPool>(*all->plain_, 0);
    return all;
  }
  if (settings.seccomp_report) {
    home.report_socket = home.directory + "/refusals.sock";
    THAW_ASSIGN_OR_RETURN(all->refusals_, Refusals::open(home.report_socket, log_refusal));
  }
  auto runc = RuncMaker::open(home, {}, settings.criu_path);
  if (runc.ok())
    all->runc_ = std::move(runc).value();
  else
    all->no_runc_ = runc.error();
  auto runsc = RunscMaker::open(home);
  if (runsc.ok())
    all->runsc_ = std::move(runsc).value();
  else
    all->no_runsc_ = runsc.error();

  const bool own_is_runc = settings.sandbox == spec::SandboxKind::runc;
  if (const auto& missing = own_is_runc ? all->no_runc_ : all->no_runsc_) return *missing;
  SandboxMaker& own = own_is_runc ? static_cast<SandboxMaker&>(*all->runc_) : static_cast<SandboxMaker&>(*all->runsc_);
  all->pool_ = std::make_unique<SandboxPool>(own, settings.pool);
  if (!all->runsc_) return all;
  RunscMaker& runsc_maker = *all->runsc_;
  if (own_is_runc) all->gvisor_pool_ = std::make_unique<SandboxPool>(runsc_maker, settings.pool, kKeepGvisor);
  all->restore_pool_ = std::make_unique<SandboxPool>([&runsc_maker] { return runsc_maker.make_for_restore(); },
                                                     settings.pool, kKeepGvisor);
  return all;
}

base::Result<SandboxMaker*> Sandboxes::maker_for(const spec::ModelSpec& model) const {
  switch (kind_for(model)) {
    case spec::SandboxKind::runc:
      if (runc_) return static_cast<SandboxMaker*>(runc_.get());
      return no_runc_->within("cannot run " + model.name.str() + " under runc");
    case spec::SandboxKind::runsc: {
      THAW_ASSIGN_OR_RETURN(RunscMaker * maker, runsc());
      return static_cast<SandboxMaker*>(maker);
    }
    case spec::SandboxKind::none:
      break;
  }
  return plain_.get();
}

std::unique_ptr<Sandbox> Sandboxes::take(const spec::ModelSpec& model) {
  const spec::SandboxKind kind = kind_for(model);
  if (kind == own_) return pool_->take();
  return kind == spec::SandboxKind::runsc && gvisor_pool_ ? gvisor_pool_->take() : nullptr;
}

std::vector<SandboxPool*> Sandboxes::pools() const {
  std::vector<SandboxPool*> all{pool_.get()};
  for (const auto* other : {&gvisor_pool_, &restore_pool_})
    if (*other) all.push_back(other->get());
  return all;
}

base::Result<RuncMaker*> Sandboxes::runc() const {
  if (runc_) return runc_.get();
  return *no_runc_;
}

base::Result<RunscMaker*> Sandboxes::runsc() const {
  if (runsc_) return runsc_.get();
  return *no_runsc_;
}

}  // namespace thaw::node
