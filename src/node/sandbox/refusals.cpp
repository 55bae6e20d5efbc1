#include "node/sandbox/refusals.h"

#include <dlfcn.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <boost/json/parse.hpp>

#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"
#include "spec/problems.h"

namespace thaw::node {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxState_bytes = 64ULL << 10;  // of what runc sends: the container's state, with its annotations
constexpr std::size_t kMaxFds = 8;
constexpr timeval kPatience{1, 0};  // with runc, which sends at once
constexpr int kBacklog = 64;
constexpr std::size_t kNotice_bytes = 1024;  // the kernel's structures may have grown

/// The name of a call of this machine's architecture. libseccomp is there wherever runc is.
std::string call_name(int number) {
  using Resolve = char* (*)(std::uint32_t, int);
  constexpr std::uint32_t kNative = 0;  // SCMP_ARCH_NATIVE
  static void* const library = ::dlopen("libseccomp.so.2", RTLD_NOW | RTLD_LOCAL);
  static const auto resolve =
      library == nullptr ? nullptr : reinterpret_cast<Resolve>(::dlsym(library, "seccomp_syscall_resolve_num_arch"));
  if (resolve != nullptr) {
    if (char* name = resolve(kNative, number); name != nullptr) {
      std::string text(name);
      std::free(name);
      return text;
    }
  }
  return fmt::format("number {}", number);
}

/// What runc sends over one connection: "containerProcessState" of the OCI runtime spec, with the descriptors that it lists.
struct Delivery {
  std::string sandbox;
  Fd notices;
};

base::Result<Delivery> receive(int connection) {
  std::vector<char> text(kMaxState_bytes);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> control{};
  iovec part{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size = ::recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
  if (size < 0) return base::errno_error("cannot read what runc says of a sandbox's refusals", errno);
  std::vector<Fd> fds;
  for (cmsghdr* at = CMSG_FIRSTHDR(&message); at != nullptr; at = CMSG_NXTHDR(&message, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t i = 0; i < (at->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(at) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  boost::system::error_code error;
  const json::value state = json::parse(json::string_view(text.data(), static_cast<std::size_t>(size)), error);
  const json::value* container = error ? nullptr : state.find_pointer("/state/id", error);
  const json::value* listed = container == nullptr ? nullptr : state.find_pointer("/fds", error);
  if (listed == nullptr || !container->is_string() || !listed->is_array())
    return base::Error{base::ErrorKind::invalid, "cannot understand what runc says of a sandbox's refusals"};
  for (std::size_t i = 0; i < listed->get_array().size() && i < fds.size(); ++i)
    if (listed->get_array()[i] == json::value("seccompFd")) return Delivery{std::string(container->get_string()), std::move(fds[i])};
  return base::Error{base::ErrorKind::invalid, "runc sent no descriptor of a sandbox's refusals"};
}

std::string program_of(std::uint32_t pid) {
  auto text = read_small_file(fmt::format("/proc/{}/comm", pid));
  if (!text.ok()) return {};
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return spec::printable(*text);  // an engine chooses it
}

}  // namespace

struct Refusals::Impl {
  struct Watched {
    std::string sandbox;
    Fd notices;
    std::set<std::string> told;
  };

  std::string path;
  Sink sink;
  Fd listener;
  Fd wake;
  Fd epoll;
  std::map<int, Watched> watched;  ///< by descriptor; at most one a living sandbox
  std::thread thread;

  base::Status watch(int fd) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return base::errno_error("cannot watch a descriptor", errno);
    return {};
  }

  void accept_one() {
    const Fd connection(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection) return;
    ::setsockopt(connection.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
    auto delivery = receive(connection.get());
    if (!delivery.ok()) {
      spdlog::warn("{}", delivery.error().message);
      return;
    }
    const int fd = delivery->notices.get();
    if (auto added = watch(fd); !added.ok()) {
      spdlog::warn("sandbox {}: its refusals are not told: {}", delivery->sandbox, added.error().message);
      return;
    }
    watched[fd] = Watched{std::move(delivery->sandbox), std::move(delivery->notices), {}};
  }

  void tell(Watched& of, const seccomp_notif& notice) const {
    if (of.told.size() >= kMaxTold) return;
    RefusedCall refused{of.sandbox, program_of(notice.pid), call_name(notice.data.nr), static_cast<std::int64_t>(notice.pid)};
    if (of.told.insert(refused.program + " " + refused.call).second) sink(refused);
  }

  void answer(int fd) {
    const auto found = watched.find(fd);
    if (found == watched.end()) return;
    alignas(seccomp_notif) std::array<char, kNotice_bytes> in{};  // the kernel wants zeros
    auto* notice = reinterpret_cast<seccomp_notif*>(in.data());
    if (::ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, notice) != 0) {
      if (errno != EINTR && errno != ENOENT) watched.erase(found);  // ENOENT: who asked was killed meanwhile
      return;
    }
    tell(found->second, *notice);
    alignas(seccomp_notif_resp) std::array<char, kNotice_bytes> out{};
    auto* response = reinterpret_cast<seccomp_notif_resp*>(out.data());
    response->id = notice->id;
    response->error = -EPERM;
    (void)::ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, response);
  }

  void run() {
    std::array<epoll_event, 16> events{};
    for (;;) {
      const int count = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd == wake.get()) return;
        if (fd == listener.get())
          accept_one();
        else if ((events[static_cast<std::size_t>(i)].events & EPOLLIN) != 0)
          answer(fd);
        else
          watched.erase(fd);  // the last process of the sandbox has ended
      }
    }
  }
};

Refusals::Refusals(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

const std::string& Refusals::socket_path() const { return impl_->path; }

base::Result<std::unique_ptr<Refusals>> Refusals::open(const std::string& socket_path, Sink sink) {
  auto impl = std::make_unique<Impl>();
  impl->path = socket_path;
  impl->sink = std::move(sink);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof address.sun_path)
    return base::Error{base::ErrorKind::invalid, "the socket's path " + socket_path + " is longer than 107 bytes"};
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  ::unlink(socket_path.c_str());
  impl->listener = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!impl->listener || ::bind(impl->listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(socket_path.c_str(), 0600) != 0 || ::listen(impl->listener.get(), kBacklog) != 0)
    return base::errno_error("cannot listen at " + socket_path, errno);
  impl->wake = Fd(::eventfd(0, EFD_CLOEXEC));
  impl->epoll = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!impl->wake || !impl->epoll) return base::errno_error("cannot watch " + socket_path, errno);
  THAW_RETURN_IF_ERROR(impl->watch(impl->listener.get()));
  THAW_RETURN_IF_ERROR(impl->watch(impl->wake.get()));
  impl->thread = std::thread([raw = impl.get()] { raw->run(); });
  return std::unique_ptr<Refusals>(new Refusals(std::move(impl)));
}

Refusals::~Refusals() {
  const std::uint64_t one = 1;
  (void)!::write(impl_->wake.get(), &one, sizeof one);
  impl_->thread.join();
  ::unlink(impl_->path.c_str());
}

}  // namespace thaw::node
