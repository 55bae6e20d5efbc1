#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "wire/file_stamp.h"

/// The problem: a model's file lies where anybody with the right may write to it, disks lose bits, and an engine that maps
/// the file shows neither. Two answers, of different price: a stamp (one system call) tells that a file was written to or
/// replaced, a digest that its bytes are other ones. Stateless; any thread; blocking.
namespace thaw::node {

/// Follows links: a stamp is of what is read. Errors: not_found, denied, io, invalid (no regular file).
base::Result<wire::FileStamp> stamp_file(const std::string& path);

/// A file's SHA-256, and the stamp it had from the first byte to the last.
struct HashedFile {
  wire::FileStamp file;
  std::string sha256;  ///< 64 hex digits, lower case
};

/// Asked before each kHashChunkBytes; may wait. False ends the hashing.
using MayGoOn = std::function<bool()>;
constexpr std::uint64_t kHashChunkBytes = 2ULL << 20;

/// Reads what is in the page cache from there, and the rest past it (O_DIRECT; where that is refused through it, giving
/// back what came in): it neither pushes out what is of use nor brings in what nobody asked for. Errors: as stamp_file();
/// conflict when the file changed meanwhile; unavailable when it may not go on.
base::Result<HashedFile> hash_file(const std::string& path, const MayGoOn& may_go_on);

}  // namespace thaw::node
