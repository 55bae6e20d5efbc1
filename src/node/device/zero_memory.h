#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "node/device/cuda_survey.h"

/// The problem: memory of a GPU that one tenant's model gave back may be the next one's, with all that is in it.
/// NVIDIA's driver clears what it frees (docs/security.md says what is known of that); this is for those who will not
/// rely on it.
namespace thaw::node {
namespace cuda_abi {
using cuMemsetD8_v2_t = CUresult(CUdeviceptr address, unsigned char value, std::size_t bytes);
}  // namespace cuda_abi

/// Takes free memory of the device, at most `at_most_bytes` of it, writes zeros there and gives it back: how much.
/// Other processes on the device are not disturbed but for finding that much less meanwhile. A context is made and
/// given up again (about half a second on hardware, and then as long as the device takes to write so much); nothing is
/// held on return.
///
/// All that is free is only taken where `at_most_bytes` is more than that: which memory is given for less is the
/// driver's choice. Blocking, for as long as the driver pleases. Any thread. Errors: the driver's; not_found: no such
/// device.
base::Result<std::uint64_t> zero_free_memory(std::uint32_t index, std::uint64_t at_most_bytes,
                                             const CudaLibraries& libraries = {});

}  // namespace thaw::node
