#include "gateway/sip_hash.h"

#include <gtest/gtest.h>

#include <string>

namespace thaw::gateway {
namespace {

constexpr std::array<std::uint64_t, 2> kKey{0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};

// Appendix A of the paper: bytes 00 01 … 0e under the key 00 01 … 0f.
TEST(SipHash, AgreesWithThePaper) {
  std::string text;
  for (char c = 0; c < 15; ++c) text += c;
  EXPECT_EQ(sip_hash(kKey, text), 0xa129ca6149be45e5ULL);
}

TEST(SipHash, EveryByteTheLengthAndTheKeyCount) {
  const std::string text(45, 'x');
  const std::uint64_t hash = sip_hash(kKey, text);
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string other = text;
    other[i] = 'y';
    EXPECT_NE(sip_hash(kKey, other), hash) << i;
  }
  EXPECT_NE(sip_hash(kKey, std::string(44, 'x')), hash);
  EXPECT_NE(sip_hash(kKey, std::string()), sip_hash(kKey, std::string(1, '\0')));
  EXPECT_NE(sip_hash({kKey[0], kKey[1] + 1}, text), hash);
}

}  // namespace
}  // namespace thaw::gateway
