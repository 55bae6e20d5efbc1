#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>

#include <curl/curl.h>

#include "gateway/oidc/door.h"
#include "net/curl_handles.h"

namespace thaw::gateway::oidc {
namespace {

constexpr long kConnectTimeout_ms = 3'000;
constexpr long kTimeout_ms = 5'000;
constexpr long kOk = 200;

base::Result<std::string> read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return base::errno_error("cannot open " + path, errno);
  std::string text;
  std::array<char, 4096> part{};
  ssize_t count = 0;
  while (text.size() <= JwkSet::kMaxBytes && (count = ::read(fd, part.data(), part.size())) > 0)
    text.append(part.data(), static_cast<std::size_t>(count));
  const int failed = errno;
  ::close(fd);
  if (count < 0) return base::errno_error("cannot read " + path, failed);
  return text;
}

std::size_t keep(char* data, std::size_t size, std::size_t count, void* into) {
  auto& text = *static_cast<std::string*>(into);
  if (text.size() + size * count > JwkSet::kMaxBytes) return 0;  // ends the transfer
  text.append(data, size * count);
  return size * count;
}

base::Result<std::string> fetch(const std::string& url) {
  net::initialise_curl();
  const net::CurlEasy easy(curl_easy_init());
  if (!easy) return base::Error{base::ErrorKind::internal, "libcurl does not start"};
  std::string text;
  curl_easy_setopt(easy.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_PROTOCOLS_STR,
                   "http,https");  // http was let through for this machine alone, by the configuration's reader
  curl_easy_setopt(easy.get(), CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy.get(), CURLOPT_CONNECTTIMEOUT_MS, kConnectTimeout_ms);
  curl_easy_setopt(easy.get(), CURLOPT_TIMEOUT_MS, kTimeout_ms);
  curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, &keep);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &text);
  if (const CURLcode code = curl_easy_perform(easy.get()); code != CURLE_OK)
    return base::Error{base::ErrorKind::unavailable, "cannot fetch " + url + ": " + curl_easy_strerror(code)};
  long status = 0;
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status != kOk)
    return base::Error{base::ErrorKind::unavailable, "cannot fetch " + url + ": it answers " + std::to_string(status)};
  return text;
}

}  // namespace

base::Result<std::string> read_key_set(const std::string& place) {
  return place.starts_with("/") ? read_file(place) : fetch(place);
}

}  // namespace thaw::gateway::oidc
