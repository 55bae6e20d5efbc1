#include "audit/tenant_seals.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <utility>

#include "audit/durable_file.h"

namespace thaw::audit {
namespace {

constexpr std::string_view kPrefix = "sealed:";
constexpr std::size_t kIdDigits = 16;
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kNonceBytes = 12;
constexpr std::size_t kTagBytes = 16;
constexpr std::size_t kMaxText = 180;  // so that what is sealed fits into a record's field
constexpr std::size_t kMaxFileBytes = 1024;
constexpr std::size_t kMaxKeys = 1'000'000;

std::string to_hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    hex += kDigits[static_cast<unsigned char>(c) >> 4U];
    hex += kDigits[static_cast<unsigned char>(c) & 15U];
  }
  return hex;
}

/// "" for what is no hex.
std::string from_hex(std::string_view hex) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  if (hex.size() % 2 != 0) return {};
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const int high = digit(hex[i]);
    const int low = digit(hex[i + 1]);
    if (high < 0 || low < 0) return {};
    bytes += static_cast<char>(high << 4 | low);
  }
  return bytes;
}

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }
unsigned char* bytes_of(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }

base::Result<std::string> random_bytes(std::size_t count) {
  std::string bytes(count, '\0');
  if (RAND_bytes(bytes_of(bytes), static_cast<int>(count)) != 1) return base::Error{base::ErrorKind::internal, "cannot get random bytes"};
  return bytes;
}

using Cipher = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

/// Nonce, ciphertext, tag; "" when OpenSSL fails.
std::string encrypt(const std::string& secret, const std::string& nonce, std::string_view text) {
  const Cipher cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  std::string out(text.size(), '\0');
  std::string tag(kTagBytes, '\0');
  int count = 0;
  const bool done = cipher && EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes_of(secret), bytes_of(nonce)) == 1 &&
                    EVP_EncryptUpdate(cipher.get(), bytes_of(out), &count, bytes_of(text), static_cast<int>(text.size())) == 1 &&
                    EVP_EncryptFinal_ex(cipher.get(), bytes_of(tag), &count) == 1 &&
                    EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, tag.data()) == 1;
  return done ? nonce + out + tag : std::string();
}

std::optional<std::string> decrypt(const std::string& secret, std::string_view sealed) {
  if (sealed.size() < kNonceBytes + kTagBytes) return std::nullopt;
  const std::string_view nonce = sealed.substr(0, kNonceBytes);
  const std::string_view text = sealed.substr(kNonceBytes, sealed.size() - kNonceBytes - kTagBytes);
  std::string tag(sealed.substr(sealed.size() - kTagBytes));
  const Cipher cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  std::string out(text.size() + kTagBytes, '\0');
  int count = 0;
  int last = 0;
  const bool done = cipher && EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes_of(secret), bytes_of(nonce)) == 1 &&
                    EVP_DecryptUpdate(cipher.get(), bytes_of(out), &count, bytes_of(text), static_cast<int>(text.size())) == 1 &&
                    EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1 &&
                    EVP_DecryptFinal_ex(cipher.get(), bytes_of(out) + count, &last) == 1;
  if (!done) return std::nullopt;
  out.resize(static_cast<std::size_t>(count + last));
  return out;
}

}  // namespace

base::Result<TenantSeals> TenantSeals::open(std::string directory, bool read_only) {
  TenantSeals seals(std::move(directory));
  std::error_code error;
  if (!read_only) {
    if (::mkdir(seals.directory_.c_str(), 0700) != 0 && errno != EEXIST) return base::errno_error("cannot create " + seals.directory_, errno);
    if (::chmod(seals.directory_.c_str(), 0700) != 0) return base::errno_error("cannot set the mode of " + seals.directory_, errno);
  }
  for (std::filesystem::directory_iterator entry(seals.directory_, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().extension() == ".key") THAW_RETURN_IF_ERROR(seals.load(entry->path().string()));
  if (error && error != std::errc::no_such_file_or_directory) return base::errno_error("cannot list " + seals.directory_, error.value());
  return seals;
}

TenantSeals::TenantSeals(TenantSeals&& other) noexcept : directory_(std::move(other.directory_)), by_tenant_(std::move(other.by_tenant_)) {}

/// A file holds the key in hex and the tenant's name, a line each.
base::Status TenantSeals::load(const std::string& path) {
  THAW_ASSIGN_OR_RETURN(const std::string text, read_small_file(path, kMaxFileBytes));
  const auto line = text.find('\n');
  Key key{std::filesystem::path(path).stem().string(), from_hex(std::string_view(text).substr(0, line))};
  if (line == std::string::npos || text.back() != '\n' || key.secret.size() != kSecretBytes || key.id.size() != kIdDigits)
    return base::Error{base::ErrorKind::invalid, path + " is no tenant's key; put it back from a backup, or remove it: what it sealed cannot be read then"};
  by_tenant_.emplace(text.substr(line + 1, text.size() - line - 2), std::move(key));
  return {};
}

base::Result<TenantSeals::Key> TenantSeals::make(const std::string& tenant) {
  if (by_tenant_.size() >= kMaxKeys) return base::Error{base::ErrorKind::exhausted, "there are too many keys of tenants in " + directory_};
  THAW_ASSIGN_OR_RETURN(const std::string id, random_bytes(kIdDigits / 2));
  THAW_ASSIGN_OR_RETURN(const std::string secret, random_bytes(kSecretBytes));
  Key key{to_hex(id), secret};
  THAW_RETURN_IF_ERROR(replace_file(path_of(key), to_hex(secret) + "\n" + tenant + "\n", 0600));
  by_tenant_.emplace(tenant, key);
  return key;
}

base::Result<std::string> TenantSeals::seal(const std::string& tenant, std::string_view text) {
  const std::lock_guard lock(mutex_);
  Key key;
  if (const auto known = by_tenant_.find(tenant); known != by_tenant_.end()) {
    key = known->second;
  } else {
    THAW_ASSIGN_OR_RETURN(key, make(tenant));
  }
  THAW_ASSIGN_OR_RETURN(const std::string nonce, random_bytes(kNonceBytes));
  const std::string sealed = encrypt(key.secret, nonce, text.substr(0, kMaxText));
  if (sealed.empty()) return base::Error{base::ErrorKind::internal, "cannot encrypt a field of the audit log"};
  return std::string(kPrefix) + key.id + ":" + to_hex(sealed);
}

std::optional<std::string> TenantSeals::open_text(std::string_view sealed) const {
  if (!sealed.starts_with(kPrefix) || sealed.size() < kPrefix.size() + kIdDigits + 1) return std::nullopt;
  const std::string_view id = sealed.substr(kPrefix.size(), kIdDigits);
  const std::lock_guard lock(mutex_);
  const auto key = std::find_if(by_tenant_.begin(), by_tenant_.end(), [&](const auto& one) { return one.second.id == id; });
  if (key == by_tenant_.end()) return std::nullopt;
  return decrypt(key->second.secret, from_hex(sealed.substr(kPrefix.size() + kIdDigits + 1)));
}

base::Result<bool> TenantSeals::shred(const std::string& tenant) {
  const std::lock_guard lock(mutex_);
  const auto known = by_tenant_.find(tenant);
  if (known == by_tenant_.end()) return false;
  const std::string path = path_of(known->second);
  {
    const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (file.get() < 0 && errno != ENOENT) return base::errno_error("cannot open " + path, errno);
    if (file.get() >= 0) {
      THAW_RETURN_IF_ERROR(write_all(file.get(), std::string(2 * kSecretBytes + 1 + tenant.size() + 1, '0'), path));
      if (::fsync(file.get()) != 0) return base::errno_error("cannot overwrite " + path, errno);
    }
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return base::errno_error("cannot remove " + path, errno);
  THAW_RETURN_IF_ERROR(sync_directory(directory_));
  by_tenant_.erase(known);
  return true;
}

}  // namespace thaw::audit
