#pragma once

#include <cstdint>
#include <optional>

/// The problem: reading a file into the page cache is worth the time only where it is not there already, and asking must cost next to nothing.
/// Stateless; any thread; never reads from the disk. Blocking for microseconds per MiB at most.
namespace thaw::node {

enum class ResidencyCall {
  best,       ///< cachestat where the kernel has it (6.5), else mincore over a mapping (Debian 12's 6.1)
  cachestat,
  mincore,
};

/// Bytes of [offset, offset + bytes) of a file that are in the page cache, in whole pages; `offset` must be a multiple of the page size.
/// Nothing when the kernel does not say: it keeps quiet to users who may not write the file (other people's reading habits are a secret),
/// mincore by claiming that all is there. Pages still on their way from the disk may count.
std::optional<std::uint64_t> resident_bytes(int fd, std::uint64_t offset, std::uint64_t bytes, ResidencyCall call = ResidencyCall::best);

}  // namespace thaw::node
