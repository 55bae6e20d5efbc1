#include "node/secrets.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include <fmt/format.h>

#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"
#include "spec/trust.h"

namespace thaw::node {
namespace {

constexpr const char* kVariablePrefix = "THAW_SECRET_";

base::Error failure(const spec::Secret& secret, base::ErrorKind kind, const std::string& why) {
  return base::Error{kind, fmt::format("cannot give the engine its secret {}: {}", secret.name, why)};
}

base::Result<std::string> read_bounded(int fd, const spec::Secret& secret) {
  std::string text(kMaxSecret_bytes + 1, '\0');
  std::size_t at = 0;
  while (at < text.size()) {
    const ssize_t got = ::read(fd, text.data() + at, text.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(secret, base::ErrorKind::io, base::errno_error("cannot read its file", errno).message);
    if (got == 0) break;
    at += static_cast<std::size_t>(got);
  }
  if (at > kMaxSecret_bytes) return failure(secret, base::ErrorKind::invalid, fmt::format("its file has more than {} bytes", kMaxSecret_bytes));
  text.resize(at);
  return text;
}

base::Result<std::string> read_file(const spec::Secret& secret, const std::string& directory) {
  const std::string remedy = fmt::format("put it into the file {}/{} of this machine (mode 0400)", directory, secret.file);
  const Fd place(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!place) return failure(secret, base::ErrorKind::not_found, base::errno_error("cannot open " + directory, errno).message + "; " + remedy);
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const Fd file(static_cast<int>(::syscall(SYS_openat2, place.get(), secret.file.c_str(), &how, sizeof how)));
  if (!file && errno == EXDEV) return failure(secret, base::ErrorKind::denied, fmt::format("{}/{} leads out of {}", directory, secret.file, directory));
  if (!file) return failure(secret, base::ErrorKind::not_found, base::errno_error(fmt::format("cannot open {}/{}", directory, secret.file), errno).message + "; " + remedy);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return failure(secret, base::ErrorKind::invalid, secret.file + " is no file");
  return read_bounded(file.get(), secret);
}

base::Result<std::string> read_variable(const spec::Secret& secret) {
  const std::string name = kVariablePrefix + secret.from_env;
  const char* value = std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe): the environment is never changed
  if (value != nullptr) return std::string(value);
  return failure(secret, base::ErrorKind::not_found, fmt::format("the server was started without the variable {}; set it (systemd: Environment= or LoadCredential=)", name));
}

}  // namespace

base::Result<std::vector<SecretValue>> read_secrets(const spec::ModelSpec& model, const base::TenantName& tenant, const std::string& directory) {
  std::vector<SecretValue> values;
  const bool own = spec::is_operators(tenant);
  for (const spec::Secret& secret : model.secrets) {
    if (!secret.from_env.empty() && !own)
      return failure(secret, base::ErrorKind::denied, "the server's variables are the operator's; use file");
    auto value = secret.from_env.empty() ? read_file(secret, own ? directory : directory + "/" + tenant.str()) : read_variable(secret);
    if (!value.ok()) return value.error();
    values.push_back({secret.name, std::move(value).value()});
  }
  return values;
}

base::Status write_secrets(const std::string& directory, const std::vector<SecretValue>& secrets, std::uint32_t uid) {
  THAW_RETURN_IF_ERROR(make_directories(directory, 0700));
  for (const SecretValue& secret : secrets) {
    const std::string path = directory + "/" + secret.name;
    THAW_RETURN_IF_ERROR(write_file(path, secret.value, 0400));
    if (::chown(path.c_str(), uid, uid) != 0) return base::errno_error("cannot give " + path + " to the engine's uid", errno);
  }
  if (::chown(directory.c_str(), uid, uid) != 0 || ::chmod(directory.c_str(), 0500) != 0)
    return base::errno_error("cannot give " + directory + " to the engine's uid", errno);
  return {};
}

}  // namespace thaw::node
