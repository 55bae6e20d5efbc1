#include "node/pull/git_blob.h"

#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <vector>

#include <fmt/format.h>

namespace thaw::node::pull {

base::Result<std::string> git_blob_of(int fd) {
  constexpr std::size_t kReadBytes = 1U << 20;
  struct stat status {};
  if (::fstat(fd, &status) != 0) return base::errno_error("cannot look at a fetched file", errno);
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  bool good = context && EVP_DigestInit_ex(context.get(), EVP_sha1(), nullptr) == 1;
  const std::string head = fmt::format("blob {}", status.st_size);
  good = good && EVP_DigestUpdate(context.get(), head.c_str(), head.size() + 1) == 1;
  std::vector<char> chunk(kReadBytes);
  for (off_t at = 0; good && at < status.st_size;) {
    const ssize_t got = ::pread(fd, chunk.data(), chunk.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return base::errno_error("cannot read back what was fetched", got < 0 ? errno : EIO);
    good = EVP_DigestUpdate(context.get(), chunk.data(), static_cast<std::size_t>(got)) == 1;
    at += got;
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned bytes = 0;
  good = good && EVP_DigestFinal_ex(context.get(), digest.data(), &bytes) == 1;
  if (!good) return base::Error{base::ErrorKind::internal, "OpenSSL cannot compute SHA-1"};
  std::string hex;
  for (unsigned i = 0; i < bytes; ++i) hex += fmt::format("{:02x}", digest.at(i));
  return hex;
}

}  // namespace thaw::node::pull
