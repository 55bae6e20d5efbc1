#include "spec/image_ref.h"

#include <gtest/gtest.h>

namespace thaw::spec {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(ImageRef, DockerNamesAreWrittenOut) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"docker://alpine", "docker://docker.io/library/alpine:latest"},
      {"docker://vllm/vllm-openai:v0.10.2", "docker://docker.io/vllm/vllm-openai:v0.10.2"},
      {"docker://ghcr.io/ggml-org/llama.cpp:server", "docker://ghcr.io/ggml-org/llama.cpp:server"},
      {"docker://localhost:5000/a/b", "docker://localhost:5000/a/b:latest"},
      {"docker://localhost/a", "docker://localhost/a:latest"},
      {"docker://r.lan/x@" + kDigest, "docker://r.lan/x@" + kDigest},
      {"docker://r.lan/x:v1@" + kDigest, "docker://r.lan/x:v1@" + kDigest},
      {"oci:/srv/x", "oci:/srv/x"},
      {"oci:images/x:v1", "oci:/home/me/images/x:v1"},
      {"oci-archive:/srv/x.tar:v1", "oci-archive:/srv/x.tar:v1"},
      {"docker-archive:/srv/x.tar", "docker-archive:/srv/x.tar"}};
  for (const auto& [text, written] : cases) {
    const auto ref = parse_image_ref(text, "/home/me");
    ASSERT_TRUE(ref.ok()) << text << ": " << ref.error().message;
    EXPECT_EQ(to_string(*ref), written);
    const auto again = parse_image_ref(written, "");
    ASSERT_TRUE(again.ok()) << written;
    EXPECT_EQ(*again, *ref);
  }
}

TEST(ImageRef, ADigestMakesNoTag) {
  const auto ref = parse_image_ref("docker://r.lan/x@" + kDigest, "");
  ASSERT_TRUE(ref.ok());
  EXPECT_EQ(ref->tag, "");
  EXPECT_EQ(ref->digest, kDigest);
}

TEST(ImageRef, WhatIsNoneIsRefusedWithAnExample) {
  for (const std::string text : {"",
                                 "alpine",
                                 "docker:alpine",
                                 "docker://",
                                 "docker://UPPER/x",
                                 "docker://a//b",
                                 "docker://r.lan/../x",
                                 "docker://r.lan/x:",
                                 "docker://r.lan/x@sha256:12",
                                 "docker://r.lan:0/x",
                                 "docker://r.lan:99999/x",
                                 "docker://a b/x",
                                 "docker://r.lan/x:ta g",
                                 "docker://-r.lan/x",
                                 "docker://r.lan/x@md5:11",
                                 "oci:",
                                 "oci:rel:x y",
                                 "docker-archive:/x.tar:v1",
                                 "http://r.lan/x",
                                 "dir:/srv/x",
                                 "containers-storage:x",
                                 "docker://user@r.lan/x",
                                 "docker://r.lan/x?y",
                                 "docker://[::1]:5000/a"}) {
    const auto ref = parse_image_ref(text, "/base");
    ASSERT_FALSE(ref.ok()) << text;
    EXPECT_EQ(ref.error().kind, base::ErrorKind::invalid);
    EXPECT_NE(ref.error().message.find("docker://registry.example.com"), std::string::npos) << ref.error().message;
  }
  EXPECT_FALSE(parse_image_ref("oci:rel", "").ok());
  EXPECT_FALSE(parse_image_ref("docker://" + std::string(2000, 'a'), "").ok());
}

TEST(ImageRef, Digests) {
  EXPECT_TRUE(is_digest(kDigest));
  EXPECT_FALSE(is_digest("sha256:" + std::string(64, 'A')));
  EXPECT_FALSE(is_digest("sha256:" + std::string(63, 'a')));
  EXPECT_FALSE(is_digest(std::string(64, 'a')));
}

}  // namespace
}  // namespace thaw::spec
