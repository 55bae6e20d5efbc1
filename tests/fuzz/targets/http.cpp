// HTTP/1.1 heads and chunked bodies, as a client (first byte even) or an engine (odd) sends them: whole, and in two pieces, which must make no
// difference.
#include <string>

#include "fuzz/check.h"
#include "fuzz/memory_file.h"
#include "net/http.h"

namespace {

using namespace thaw::net;

bool lies_in(std::string_view part, std::string_view whole) {
  return part.empty() || (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

Parse parse(bool request, std::string_view text, Head& head) {
  HeadError error;
  const Parse result = request ? parse_request(text, head, error) : parse_response(text, false, head, error);
  if (result == Parse::bad) FUZZ_CHECK(error.status >= 400 && error.message[0] != '\0');
  return result;
}

void check_head(bool request, std::string_view text) {
  Head head;
  if (parse(request, text, head) != Parse::done) return;
  FUZZ_CHECK(head.bytes <= text.size() && head.header_count <= head.headers.size());
  for (std::size_t i = 0; i < head.header_count; ++i) {
    FUZZ_CHECK(lies_in(head.headers[i].name, text) && lies_in(head.headers[i].value, text));
    has_token(head.headers[i].value, "close");
  }
  FUZZ_CHECK(lies_in(head.path(), text) && lies_in(head.query(), text));
  // What follows a head is not part of it.
  Head alone;
  FUZZ_CHECK(parse(request, text.substr(0, head.bytes), alone) == Parse::done && alone.bytes == head.bytes);
}

struct Scanned {
  std::string content;
  std::size_t bytes = 0;
  bool done = false;
  bool bad = false;
  bool operator==(const Scanned&) const = default;
};

Scanned scan(std::string_view first, std::string_view second) {
  ChunkScanner scanner;
  Scanned result;
  const auto keep = [&](std::string_view run) { result.content += run; };
  result.bytes = scanner.scan(first, keep);
  if (result.bytes == first.size()) result.bytes += scanner.scan(second, keep);
  result.done = scanner.done();
  result.bad = scanner.bad();
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text = thaw::fuzz::text_of(data + 1, size - 1);
  check_head(data[0] % 2 == 0, text);
  const std::size_t middle = text.size() / 2;
  FUZZ_CHECK(scan(text, {}) == scan(text.substr(0, middle), text.substr(middle)));
  return 0;
}
