#pragma once

#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "store/store.h"

namespace thaw::store {

/// 32 random bytes in base 62, from the kernel.
base::Result<std::string> new_key_secret();
base::Result<std::string> new_salt();

/// SHA-256(salt || secret): the secret has 190 random bits, so that a slow hash adds nothing.
std::string hash_secret(std::string_view salt, std::string_view secret);

std::string format_key(base::KeyId id, std::string_view secret);  ///< "thaw_<id base 36>_<secret>"

struct KeyParts { base::KeyId id; std::string_view secret; };
/// Splits what a client sent; views into `key`. Refuses anything else than the format above, over 128 bytes, or an id of 0.
base::Result<KeyParts> split_key(std::string_view key);

/// Compares in constant time.
bool secret_matches(const StoredKey& stored, std::string_view secret);

}  // namespace thaw::store
