// The audit log's readers: a line (first byte even) or a whole log (odd), as somebody with a grudge left it.
#include <string>

#include "audit/chain_checker.h"
#include "audit/record.h"
#include "audit/signing_key.h"
#include "fuzz/check.h"
#include "fuzz/memory_file.h"

namespace {

using namespace thaw::audit;

void check_line(std::string_view line) {
  // A line has one meaning and a meaning one line.
  if (const auto record = decode(line); record.ok()) FUZZ_CHECK(encode(*record) == line);
  if (const auto head = decode_head(line); head.ok()) {
    FUZZ_CHECK(encode_head(*head) == line);
    signature_holds(*head);
  }
  // Whatever a client sends, the record of it can be read again.
  Record record;
  record.seq = 1;
  record.prev = first_prev();
  record.subject = record.detail = record.route = std::string(line);
  const std::string written = encode(record);
  FUZZ_CHECK(written.size() <= kMaxLineBytes && decode(written).ok());
}

void check_log(std::string_view text) {
  ChainChecker checker;
  checker.expect({3, first_prev(), 0, {}, {}}, "anchor", 1);
  checker.begin_file("log");
  std::uint64_t number = 0;
  std::uint64_t good = 0;
  while (!text.empty()) {
    const auto end = text.find('\n');
    if (end != std::string_view::npos && decode(text.substr(0, end)).ok()) ++good;
    checker.line(text.substr(0, end), ++number, end != std::string_view::npos, true);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  const Report report = checker.finish();
  FUZZ_CHECK(report.records == good && report.findings.size() <= Report::kMaxFindings);
  FUZZ_CHECK(!report.ok());  // record 3 with a hash of zeros cannot be there
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text = thaw::fuzz::text_of(data + 1, size - 1);
  if (data[0] % 2 == 0)
    check_line(text);
  else
    check_log(text);
  return 0;
}
