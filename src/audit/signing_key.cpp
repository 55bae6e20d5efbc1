#include "audit/signing_key.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/durable_file.h"
#include "audit/line_reader.h"
#include "audit/record.h"

namespace thaw::audit {
namespace {

constexpr std::size_t kKeyBytes = 32;
constexpr std::size_t kSignatureBytes = 64;
constexpr std::size_t kMaxPemBytes = 4096;

using Bio = std::unique_ptr<BIO, decltype(&BIO_free_all)>;

std::string hex(const std::vector<unsigned char>& bytes) {
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

std::optional<std::vector<unsigned char>> unhex(std::string_view text, std::size_t bytes) {
  if (text.size() != 2 * bytes || text.find_first_not_of("0123456789abcdef") != std::string_view::npos)
    return std::nullopt;
  std::vector<unsigned char> out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, out[i], 16);
  return out;
}

/// The context in front keeps a signature from being good for anything else that is ever signed.
std::string signed_text(const Head& head) {
  return fmt::format("thaw audit head v1\n{}\n{}\n{}\n", head.seq, head.hash, format_time(head.unix_ms));
}

base::Result<std::string> public_hex_of(EVP_PKEY* key, const std::string& path) {
  std::vector<unsigned char> bytes(kKeyBytes);
  std::size_t size = bytes.size();
  if (EVP_PKEY_get_id(key) != EVP_PKEY_ED25519 || EVP_PKEY_get_raw_public_key(key, bytes.data(), &size) != 1 ||
      size != kKeyBytes)
    return base::Error{base::ErrorKind::invalid, path + " holds no Ed25519 key"};
  return hex(bytes);
}

std::string drained(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
}

}  // namespace

void SigningKey::Free::operator()(EVP_PKEY* key) const {
  EVP_PKEY_free(key);
}

std::string encode_head(const Head& head) {
  return fmt::format(R"({{"seq":{},"hash":"{}","time":"{}","key":"{}","signature":"{}"}})", head.seq, head.hash,
                     format_time(head.unix_ms), head.key, head.signature);
}

base::Result<Head> decode_head(std::string_view line) {
  Head head;
  LineReader in(line);
  const bool read = in.skip(R"({"seq":)") && in.number(head.seq) && in.skip(R"(,"hash":)") && in.text(head.hash) &&
                    in.skip(R"(,"time":)") && in.time(head.unix_ms) && in.skip(R"(,"key":)") && in.text(head.key) &&
                    in.skip(R"(,"signature":)") && in.text(head.signature) && in.skip("}") && in.at_end();
  if (!read || !unhex(head.hash, 32) || !unhex(head.key, kKeyBytes) || !unhex(head.signature, kSignatureBytes) ||
      encode_head(head) != line)
    return base::Error{base::ErrorKind::invalid, "the line is no signed head"};
  return head;
}

bool signature_holds(const Head& head) {
  const auto key_bytes = unhex(head.key, kKeyBytes);
  const auto signature = unhex(head.signature, kSignatureBytes);
  if (!key_bytes || !signature) return false;
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key_bytes->data(), kKeyBytes), &EVP_PKEY_free);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (!key || !context || EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1) return false;
  const std::string text = signed_text(head);
  return EVP_DigestVerify(context.get(), signature->data(), signature->size(),
                          reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1;
}

base::Result<SigningKey> SigningKey::of(Key key, bool made) {
  THAW_ASSIGN_OR_RETURN(std::string name, public_hex_of(key.get(), "the signing key's file"));
  return SigningKey(std::move(key), std::move(name), made);
}

base::Result<SigningKey> SigningKey::open_or_make(const std::string& directory) {
  const std::string path = directory + "/signing.key";
  auto pem = read_small_file(path, kMaxPemBytes);
  const bool make = !pem.ok() && pem.error().kind == base::ErrorKind::not_found;
  if (!pem.ok() && !make) return pem.error();
  Key key;
  if (make) {
    key.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  } else {
    const Bio bio(BIO_new_mem_buf(pem->data(), static_cast<int>(pem->size())), &BIO_free_all);
    key.reset(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  }
  if (!key && !make)
    return base::Error{
        base::ErrorKind::invalid,
        path + " holds no private key in PEM; put the right one back, or move it away to have another made"};
  if (!key) return base::Error{base::ErrorKind::internal, "cannot make a key to sign the audit log with"};
  THAW_ASSIGN_OR_RETURN(SigningKey opened, of(std::move(key), make));
  const Bio public_pem(BIO_new(BIO_s_mem()), &BIO_free_all);
  if (!public_pem || PEM_write_bio_PUBKEY(public_pem.get(), opened.key_.get()) != 1)
    return base::Error{base::ErrorKind::internal, "cannot write the audit log's public key"};
  if (make) {
    const Bio secret(BIO_new(BIO_s_secmem()), &BIO_free_all);
    if (!secret ||
        PEM_write_bio_PKCS8PrivateKey(secret.get(), opened.key_.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1)
      return base::Error{base::ErrorKind::internal, "cannot write the audit log's signing key"};
    THAW_RETURN_IF_ERROR(replace_file(path, drained(secret.get()), 0600));
  }
  const std::string public_path = directory + "/signing.pub";
  if (const auto there = read_public_key(public_path); !there.ok() || *there != opened.public_hex())
    THAW_RETURN_IF_ERROR(replace_file(public_path, drained(public_pem.get()), 0644));
  return opened;
}

base::Result<Head> SigningKey::sign(std::uint64_t seq, const std::string& hash, std::int64_t unix_ms) const {
  Head head{seq, hash, unix_ms, public_hex_, {}};
  const std::string text = signed_text(head);
  std::vector<unsigned char> signature(kSignatureBytes);
  std::size_t size = signature.size();
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (!context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get()) != 1 ||
      EVP_DigestSign(context.get(), signature.data(), &size, reinterpret_cast<const unsigned char*>(text.data()),
                     text.size()) != 1)
    return base::Error{base::ErrorKind::internal, "cannot sign the audit log's head"};
  head.signature = hex(signature);
  return head;
}

base::Result<std::string> read_public_key(const std::string& path) {
  THAW_ASSIGN_OR_RETURN(const std::string pem, read_small_file(path, kMaxPemBytes));
  const Bio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free_all);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr), &EVP_PKEY_free);
  if (!key) return base::Error{base::ErrorKind::invalid, path + " holds no public key in PEM"};
  return public_hex_of(key.get(), path);
}

}  // namespace thaw::audit
