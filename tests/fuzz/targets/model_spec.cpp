// A model's spec in YAML or JSON. What is accepted must come back the same from its own JSON.
#include "fuzz/check.h"
#include "fuzz/memory_file.h"
#include "spec/parse.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto spec = thaw::spec::parse_model(thaw::fuzz::text_of(data, size), "model.yaml", "/srv");
  if (!spec.ok()) {
    FUZZ_CHECK(!spec.error().message.empty());
    return 0;
  }
  FUZZ_CHECK(thaw::spec::validate(*spec).ok());
  const std::string json = thaw::spec::to_json(*spec);
  const auto again = thaw::spec::parse_model(json, "", "");
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(thaw::spec::to_json(*again) == json);
  return 0;
}
