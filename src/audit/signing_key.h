#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <openssl/types.h>

#include "base/result.h"

namespace thaw::audit {

/// What the log was at a moment, signed: everything up to record `seq`. Kept elsewhere, it is an anchor: a log that was
/// cut or written anew differs.
struct Head {
  std::uint64_t seq = 0;
  std::string hash;          ///< of that record
  std::int64_t unix_ms = 0;  ///< when it was signed
  std::string key;           ///< the public key, 64 hex digits
  std::string signature;     ///< Ed25519 (RFC 8032), 128 hex digits

  bool operator==(const Head&) const = default;
};

/// One line of JSON, without a newline; decode_head takes what encode_head writes and nothing else. It does not check
/// the signature.
std::string encode_head(const Head& head);
base::Result<Head> decode_head(std::string_view line);

/// Whether the head was signed by the public key that it names.
bool signature_holds(const Head& head);

/// An Ed25519 key pair. The private half never leaves its file (PEM, mode 0600) and this process.
class SigningKey {
 public:
  /// Reads DIRECTORY/signing.key, or makes one: durable, and with DIRECTORY/signing.pub (PEM) beside it.
  static base::Result<SigningKey> open_or_make(const std::string& directory);

  /// Signs seq, hash and unix_ms.
  [[nodiscard]] base::Result<Head> sign(std::uint64_t seq, const std::string& hash, std::int64_t unix_ms) const;
  [[nodiscard]] const std::string& public_hex() const { return public_hex_; }
  [[nodiscard]] bool made() const { return made_; }  ///< by this call

 private:
  struct Free {
    void operator()(EVP_PKEY* key) const;
  };
  using Key = std::unique_ptr<EVP_PKEY, Free>;
  static base::Result<SigningKey> of(Key key, bool made);
  SigningKey(Key key, std::string public_hex, bool made)
      : key_(std::move(key)), public_hex_(std::move(public_hex)), made_(made) {}

  Key key_;
  std::string public_hex_;
  bool made_;
};

/// The key in a PEM file of `openssl pkey -pubout` or of ours, as 64 hex digits.
base::Result<std::string> read_public_key(const std::string& path);

}  // namespace thaw::audit
