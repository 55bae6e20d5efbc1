#pragma once

#include <optional>
#include <string>
#include <vector>

#include "store/store.h"
#include "wire/messages.h"

/// What is known of a model's file over time, as plain values: what it was when the model was deployed, what is in its place
/// by now. Pure; `now_unix_ms` is the time of whoever calls.
namespace thaw::controller {

struct KnownFile {
  store::StoredFile deployed;                ///< as it was when the model was deployed
  std::optional<store::StoredFile> changed;  ///< what was found in its place since then
  bool gone = false;                         ///< seen by a running replica; not kept over a restart

  /// What is there now, as far as is known.
  [[nodiscard]] const store::StoredFile& current() const { return changed ? *changed : deployed; }
  [[nodiscard]] store::StoredFile& current() { return changed ? *changed : deployed; }
};

wire::FileStamp stamp_of(const store::StoredFile& file);

/// The files as they are meant to be from now on. Digests of files that are the same as before are kept.
std::vector<KnownFile> files_as_deployed(const std::vector<KnownFile>& before, const std::vector<wire::FileStamp>& files);

/// A start found the file so. Returns how it differs from what was known, for people; empty when it does not.
std::string see_file(KnownFile& file, const wire::FileStamp& stamp, std::int64_t now_unix_ms);

/// The background has computed a digest. Returns whether it says something about the file as it is known: else the file
/// changed meanwhile. A changed file with the bytes of the deployed one is the deployed one.
bool take_digest(KnownFile& file, const wire::FileHashed& answer, std::int64_t now_unix_ms);

/// How one file stands against what was deployed.
struct FileVerdict {
  enum class Outcome {
    intact,      ///< the digest that was recorded
    recorded,    ///< there was none to compare with: this one is, from now on
    changed,     ///< other bytes, and it was written to or replaced
    damaged,     ///< other bytes, though nobody seems to have written to it
    unreadable,  ///< detail says why
  };
  std::string path;
  Outcome outcome = Outcome::intact;
  std::uint64_t bytes = 0;
  std::string sha256;           ///< now; empty when unreadable
  std::string recorded_sha256;  ///< when it was deployed; empty: never
  std::string detail;           ///< what is wrong, for people; empty when nothing is
  [[nodiscard]] bool good() const { return outcome == Outcome::intact || outcome == Outcome::recorded; }
};
const char* to_string(FileVerdict::Outcome outcome);

/// `thaw verify` has hashed the file. What it found is noted in `file`.
FileVerdict judge_file(KnownFile& file, const wire::FileHashed& answer, std::int64_t now_unix_ms);

}  // namespace thaw::controller
