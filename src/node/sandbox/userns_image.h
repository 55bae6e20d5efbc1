#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

/// The problem: criu restores a user namespace with the ids that it had, and every sandbox of ours has ids of its own.
/// In the files of an image all ids but those of the mapping itself are as seen from inside, so another mapping makes
/// it an image of another sandbox.
namespace thaw::node {

/// criu's userns-N.img, of a sandbox whose ids 0 to kUidRange - 1 are mapped, with the same range mapped to `uid_base`
/// and onwards, for users and groups. Format: two 32-bit magic numbers, the size of one message as 32 bits, the message
/// (criu's images/userns.proto). Fails with invalid when it is something else.
base::Result<std::string> with_uid_base(std::string_view image, std::uint32_t uid_base);

}  // namespace thaw::node
