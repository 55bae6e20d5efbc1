#include "node/sandbox/plain.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/sandbox/contents.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"
#include "node/sandbox/pipes.h"

namespace thaw::node {
namespace {

constexpr std::size_t kMaxSocketPath = 107;  // sun_path, less its NUL

constexpr const char* kLoopback = "127.0.0.1";

/// One that nobody listens on at this moment; 0 when there is none. Somebody else may take it before the engine does: whoever minds that uses sandboxes.
std::uint16_t free_port() {
  const Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  ::inet_pton(AF_INET, kLoopback, &address.sin_addr);
  socklen_t size = sizeof address;
  const bool bound = probe && ::bind(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                     ::getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0;
  return bound ? ntohs(address.sin_port) : 0;
}

std::string name_of(base::InstanceId instance) { return fmt::format("i{}", instance.value()); }

}  // namespace

std::string PlainMaker::directory_of(base::InstanceId instance) const { return home_.boxes() + "/" + name_of(instance); }

LaunchPaths PlainMaker::view(base::InstanceId instance) const {
  return {run_dir_of(directory_of(instance)) + "/" + kSocketName, "", "", home_.lazy_map_path, kLoopback, free_port()};
}

base::Result<std::unique_ptr<Sandbox>> PlainMaker::make(base::InstanceId instance, const SandboxContents& contents) {
  if (!contents.secrets.empty())
    return base::Error{base::ErrorKind::unavailable, "cannot give an engine secrets without a sandbox; start the server without --sandbox=none"};
  const std::string directory = directory_of(instance);
  auto sandbox = make_in(name_of(instance), directory);
  if (sandbox.ok()) return sandbox;
  (void)remove_tree(directory);
  return sandbox.error().within("cannot start an engine without a sandbox");
}

base::Result<std::unique_ptr<Sandbox>> PlainMaker::make_empty() {
  return base::Error{base::ErrorKind::unavailable, "cannot make processes ahead without a sandbox: there is nothing to save"};
}

base::Result<std::unique_ptr<Sandbox>> PlainMaker::make_in(const std::string& name, const std::string& directory) {
  const std::string socket_path = run_dir_of(directory) + "/" + kSocketName;
  if (socket_path.size() > kMaxSocketPath)
    return base::Error{base::ErrorKind::invalid, "the socket's path " + socket_path + " is longer than 107 bytes; choose a shorter --data-dir"};
  THAW_RETURN_IF_ERROR(make_directories(run_dir_of(directory), 0700));
  THAW_ASSIGN_OR_RETURN(FdPair control, make_control_pair());
  THAW_ASSIGN_OR_RETURN(FdPair output, make_output_pipe());
  THAW_ASSIGN_OR_RETURN(const pid_t pid, spawn({.argv = {home_.init_path},
                                                .env = {},
                                                .stdin_fd = control.theirs.get(),
                                                .output_fd = output.theirs.get(),
                                                .directory = "/"}));
  THAW_ASSIGN_OR_RETURN(Fd pidfd, open_pidfd(pid));
  auto sandbox = std::make_unique<Sandbox>(Sandbox::Parts{.name = name,
                                                          .directory = directory,
                                                          .socket_path = socket_path,
                                                          .cgroup = std::nullopt,
                                                          .pid = pid,
                                                          .pidfd = std::move(pidfd),
                                                          .control = std::move(control.ours),
                                                          .output = std::move(output.ours),
                                                          .runtime_state = {},
                                                          .contents_fixed = true,
                                                          .released = {}});
  if (!home_.cgroups) return sandbox;
  const Cgroup cgroup(home_.cgroups, home_.cgroups->parent_path(home_.label) + "/" + name);
  THAW_RETURN_IF_ERROR(cgroup.create());
  sandbox->adopt(cgroup);
  THAW_RETURN_IF_ERROR(cgroup.add(pid));
  if (auto joined = cgroup.join_freezer(pid); !joined.ok()) spdlog::debug("sandbox {}: {}", name, joined.error().message);
  return sandbox;
}

}  // namespace thaw::node
