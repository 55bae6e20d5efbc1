#include "store/api_key.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <memory>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <sys/random.h>

namespace thaw::store {
namespace {

constexpr std::string_view kPrefix = "thaw_";
constexpr std::string_view kBase62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr std::size_t kSecretLength = 32;  // 32 * log2(62) = 190 bits
constexpr std::size_t kSaltBytes = 16;
constexpr std::size_t kMaxKeyLength = 128;
constexpr int kBase = 36;

base::Status fill_random(char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t count = ::getrandom(data, size, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::errno_error("cannot get random bytes from the kernel", errno);
    data += count;
    size -= static_cast<std::size_t>(count);
  }
  return {};
}

base::Error no_key() {
  return {base::ErrorKind::denied, "this is no API key; a key looks like thaw_1_ and 32 letters or digits"};
}

std::string base36(std::uint64_t number) {
  std::array<char, 16> digits{};  // 2^64 has 13
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), number, kBase);
  return {digits.data(), end};
}

}  // namespace

base::Result<std::string> new_key_secret() {
  // Bytes from 248 up are thrown away: 248 is 4 * 62, so that every letter is as likely as any other.
  constexpr auto kFairLimit = static_cast<unsigned char>(256 / kBase62.size() * kBase62.size());
  std::string secret;
  while (secret.size() < kSecretLength) {
    std::array<char, kSecretLength> random{};
    THAW_RETURN_IF_ERROR(fill_random(random.data(), random.size()));
    for (const char c : random) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < kFairLimit && secret.size() < kSecretLength) secret += kBase62[byte % kBase62.size()];
    }
    OPENSSL_cleanse(random.data(), random.size());
  }
  return secret;
}

base::Result<std::string> new_salt() {
  std::string salt(kSaltBytes, '\0');
  THAW_RETURN_IF_ERROR(fill_random(salt.data(), salt.size()));
  return salt;
}

std::string hash_secret(std::string_view salt, std::string_view secret) {
  // Fetched once: SHA256() looks its implementation up on every call, which takes longer than the hash and is paid per
  // request.
  static const std::unique_ptr<EVP_MD, void (*)(EVP_MD*)> sha256(EVP_MD_fetch(nullptr, "SHA256", nullptr),
                                                                 &EVP_MD_free);
  const std::string text = std::string(salt).append(secret);
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  // Fails only when memory runs out. An empty hash matches nothing (see secret_matches).
  if (EVP_Digest(text.data(), text.size(), digest.data(), nullptr, sha256.get(), nullptr) != 1) return {};
  return {digest.begin(), digest.end()};
}

std::string format_key(base::KeyId id, std::string_view secret) {
  return std::string(kPrefix).append(base36(id.value())).append("_").append(secret);
}

base::Result<KeyParts> split_key(std::string_view key) {
  if (key.size() > kMaxKeyLength || !key.starts_with(kPrefix)) return no_key();
  const std::string_view rest = key.substr(kPrefix.size());
  const std::size_t bar = rest.find('_');
  if (bar == std::string_view::npos) return no_key();
  const std::string_view id_text = rest.substr(0, bar);
  const std::string_view secret = rest.substr(bar + 1);
  std::uint64_t id = 0;
  const auto [end, error] = std::from_chars(id_text.data(), id_text.data() + id_text.size(), id, kBase);
  // Written back and compared: one id has one spelling, so "01" and "A" are none.
  if (error != std::errc{} || end != id_text.data() + id_text.size() || id == 0 || base36(id) != id_text)
    return no_key();
  if (secret.size() != kSecretLength || secret.find_first_not_of(kBase62) != std::string_view::npos) return no_key();
  return KeyParts{base::KeyId(id), secret};
}

bool secret_matches(const StoredKey& stored, std::string_view secret) {
  const std::string hash = hash_secret(stored.salt, secret);
  return !hash.empty() && stored.hash.size() == hash.size() &&
         CRYPTO_memcmp(stored.hash.data(), hash.data(), hash.size()) == 0;
}

}  // namespace thaw::store
