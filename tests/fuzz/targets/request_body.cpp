// An OpenAI request's body, and an engine's answer in which token counts are looked for: whole, and in two pieces.
#include "fuzz/check.h"
#include "fuzz/memory_file.h"
#include "gateway/body_scan.h"
#include "gateway/usage_tap.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = thaw::fuzz::text_of(data, size);
  const auto facts = thaw::gateway::scan_body(text);
  FUZZ_CHECK(facts.ok() || !facts.error().message.empty());
  thaw::gateway::UsageTap document;
  document.document(text);
  thaw::gateway::UsageTap whole;
  whole.stream(text);
  thaw::gateway::UsageTap pieces;
  pieces.stream(text.substr(0, size / 2));
  pieces.stream(text.substr(size / 2));
  return 0;
}
