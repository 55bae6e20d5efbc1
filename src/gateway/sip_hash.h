#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace thaw::gateway {

/// SipHash-2-4 (Aumasson and Bernstein, 2012): a short keyed hash. Who does not know the key cannot tell which texts
/// have the same one.
std::uint64_t sip_hash(const std::array<std::uint64_t, 2>& key, std::string_view text);

}  // namespace thaw::gateway
