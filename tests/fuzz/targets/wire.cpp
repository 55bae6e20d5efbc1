// Messages between controller and node. What is accepted must come back the same from its own JSON.
#include "fuzz/check.h"
#include "fuzz/memory_file.h"
#include "wire/messages.h"

namespace {

template <typename Parse>
void check(std::string_view text, const Parse& parse) {
  const auto message = parse(text);
  if (!message.ok()) return;
  const std::string json = thaw::wire::to_json(*message);
  const auto again = parse(json);
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(thaw::wire::to_json(*again) == json);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = thaw::fuzz::text_of(data, size);
  check(text, thaw::wire::parse_hello);
  check(text, thaw::wire::parse_command);
  check(text, thaw::wire::parse_event);
  return 0;
}
