#include <gtest/gtest.h>

#include "spec/parse.h"

namespace thaw::spec {
namespace {

const std::vector<std::string> kKeys{"minReplicas", "maxReplicas", "idleTimeout", "queue", "cpus", "path"};

TEST(Nearest, FindsSlips) {
  EXPECT_EQ(nearest("idleTimout", kKeys), "idleTimeout");
  EXPECT_EQ(nearest("idletimeout", kKeys), "idleTimeout");
  EXPECT_EQ(nearest("qeueu", {"queue", "query"}), "");  // two slips in five letters are too many
  EXPECT_EQ(nearest("queeu", kKeys), "queue");          // a transposition is one
  EXPECT_EQ(nearest("max_replicas", kKeys), "maxReplicas");
  EXPECT_EQ(nearest("cpu", kKeys), "cpus");
}

TEST(Nearest, PrefersTheCloserAndTheEarlier) {
  EXPECT_EQ(nearest("mixReplicas", kKeys), "minReplicas");
  EXPECT_EQ(nearest("mxReplicas", {"maxReplicas", "mexReplicas"}), "maxReplicas");
}

TEST(Nearest, DoesNotGuessWildly) {
  EXPECT_EQ(nearest("wombat", kKeys), "");
  EXPECT_EQ(nearest("", kKeys), "");
  EXPECT_EQ(nearest("x", {"y"}), "");
  EXPECT_EQ(nearest("queue", {}), "");
  EXPECT_EQ(nearest(std::string(100'000, 'q'), kKeys), "");
}

}  // namespace
}  // namespace thaw::spec
