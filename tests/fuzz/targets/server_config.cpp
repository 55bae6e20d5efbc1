// The server's configuration file in YAML or JSON, and an address to listen on.
#include "spec/server_config.h"
#include "fuzz/check.h"
#include "fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = thaw::fuzz::text_of(data, size);
  const auto config = thaw::spec::parse_server_config(text, "thaw.yaml", {});
  FUZZ_CHECK(config.ok() || !config.error().message.empty());
  thaw::spec::ServerConfig listening;
  const std::string host = listening.listen_host;
  if (!thaw::spec::parse_listen(text, listening).ok()) FUZZ_CHECK(listening.listen_host == host);
  return 0;
}
