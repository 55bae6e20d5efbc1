// A request's body, JSON or a form, what is set in it on its way, and an engine's answer in which token counts are looked for: whole, and in two pieces.
#include "fuzz/check.h"
#include "fuzz/memory_file.h"
#include "gateway/body_patch.h"
#include "gateway/body_scan.h"
#include "gateway/form_scan.h"
#include "gateway/usage_tap.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = thaw::fuzz::text_of(data, size);
  const auto facts = thaw::gateway::scan_body(text);
  FUZZ_CHECK(facts.ok() || !facts.error().message.empty());
  if (facts.ok()) {
    const auto patched = thaw::gateway::scan_body(thaw::gateway::patch_body(text, {{"model", "\"other\"", true}, {"stream", "true", false}}));
    FUZZ_CHECK(patched.ok() && patched->model == "other");
  }
  // The first line as the type, the rest as the form.
  const std::size_t line = text.find('\n');
  const auto form = thaw::gateway::scan_form(line == std::string_view::npos ? text : text.substr(line + 1), text.substr(0, line));
  FUZZ_CHECK(form.ok() ? !form->model.empty() : !form.error().message.empty());
  thaw::gateway::UsageTap document;
  document.document(text);
  thaw::gateway::UsageTap whole;
  whole.stream(text);
  thaw::gateway::UsageTap pieces;
  pieces.stream(text.substr(0, size / 2));
  pieces.stream(text.substr(size / 2));
  return 0;
}
