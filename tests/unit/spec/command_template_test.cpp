#include "spec/command_template.h"

#include <gtest/gtest.h>

namespace thaw::spec {
namespace {

using Words = std::vector<std::string>;

TEST(CommandTemplate, TellsHowTheServerListens) {
  EXPECT_EQ(*check_command({"serve", "--port={port}"}), CommandListens::tcp);
  EXPECT_EQ(*check_command({"/opt/serve", "unix:{socket}"}), CommandListens::unix_socket);
  for (const Words& bad : {Words{"serve"}, Words{"serve", "{port}", "{socket}"}, Words{"", "{port}"},
                           Words{"./serve", "{port}"}, Words{"serve", "{ports}", "{port}"}})
    EXPECT_FALSE(check_command(bad).ok()) << bad.back();
}

TEST(CommandTemplate, FillsInEveryPlaceAndLeavesOtherBracesAlone) {
  const Words filled =
      fill_command({"serve", "{host}:{port}", "{\"port\":{port}}", "{}", "{", "}", "{port", "{Port}", "{p0}", "{name}"},
                   {{"host", "127.0.0.1"}, {"port", "{8080}"}});
  EXPECT_EQ(filled, (Words{"serve", "127.0.0.1:{8080}", "{\"port\":{8080}}", "{}", "{", "}", "{port", "{Port}", "{p0}",
                           "{name}"}));
}

}  // namespace
}  // namespace thaw::spec
