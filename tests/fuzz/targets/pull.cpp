// What a pull reads of strangers: a hub's listing, headers, URLs; and of its own disk: journals and entries.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fuzz/check.h"
#include "node/pull/http_rules.h"
#include "node/pull/hub.h"
#include "node/pull/journal.h"
#include "node/pull/set_entry.h"
#include "spec/source_ref.h"

namespace {

using namespace thaw;
using namespace thaw::node::pull;

bool leads_outside(const std::string& path) {
  return path.empty() || path.front() == '/' || ("/" + path + "/").find("/../") != std::string::npos;
}

void read_listing(std::string_view text) {
  const auto listing = parse_listing(text);
  if (!listing.ok()) return;
  for (const HubFile& file : listing->files) FUZZ_CHECK(!leads_outside(file.path));
  for (const char* ref : {"o/r", "o/r:Q4_K_M", "o/r/model.gguf"}) {
    for (const bool directory : {false, true}) {
      const auto selection = select_files(*listing, *spec::parse_hub_ref(ref), directory);
      if (!selection.ok()) continue;
      FUZZ_CHECK(!selection->files.empty());
      FUZZ_CHECK(selection->main.find('/') == std::string::npos);
    }
  }
}

void read_url(std::string_view text) {
  if (const auto url = spec::parse_url(text); url.ok()) {
    FUZZ_CHECK(!url->host.empty() && url->port != 0 && url->path.front() == '/');
    FUZZ_CHECK(url->host.find_first_of("@/:?#") == std::string::npos || url->host.find(':') != std::string::npos);
    (void)url->file_name();
  }
  if (const auto ref = spec::parse_hub_ref(text); ref.ok()) {
    const auto again = spec::parse_hub_ref(spec::to_string(*ref));
    FUZZ_CHECK(again.ok() && spec::to_string(*again) == spec::to_string(*ref));
    FUZZ_CHECK(!leads_outside(ref->repo) && (ref->file.empty() || !leads_outside(ref->file)));
  }
  if (const auto range = parse_content_range(text)) FUZZ_CHECK(range->range.begin < range->range.end && range->range.end <= range->total_bytes);
  if (const auto split = spec::split_name(text)) FUZZ_CHECK(split->name(split->part) == text);
}

void read_own(std::string_view text) {
  if (const auto journal = parse_journal(text); journal.ok()) {
    RangeSet have;
    for (const Range& range : journal->ranges) have.add(range);
    FUZZ_CHECK(have.bytes() <= journal->total_bytes);
    const auto again = parse_journal(to_json(*journal));
    FUZZ_CHECK(again.ok() && *again == *journal);
  }
  if (const auto set = parse_set(text); set.ok()) {
    for (const PulledFile& file : set->files) FUZZ_CHECK(file.name.find('/') == std::string::npos && file.sha256.size() == 64);
    FUZZ_CHECK(parse_set(to_json(*set)).ok());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read_listing(text);
  read_url(text);
  read_own(text);
  return 0;
}
