#include "net/http.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace thaw::net {
namespace {

struct Refused {
  const char* name;
  std::string text;
  int status;
};

class RequestRefused : public testing::TestWithParam<Refused> {};

TEST_P(RequestRefused, WithItsStatus) {
  Head head;
  HeadError error;
  ASSERT_EQ(parse_request(GetParam().text, head, error), Parse::bad);
  EXPECT_EQ(error.status, GetParam().status) << error.message;
}

std::string many_headers(int count) {
  std::string text = "GET / HTTP/1.1\r\nHost: h\r\n";
  for (int i = 0; i < count; ++i) text += "x" + std::to_string(i) + ": 1\r\n";
  return text + "\r\n";
}

INSTANTIATE_TEST_SUITE_P(
    Http, RequestRefused,
    testing::Values(
        Refused{"both_lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        Refused{"length_twice", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 400},
        Refused{"length_list", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\n", 400},
        Refused{"length_sign", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\n", 400},
        Refused{"length_huge", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
        Refused{"other_coding", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400},
        Refused{"coding_twice", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        Refused{"chunked_in_1_0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        Refused{"folded", "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", 400},
        Refused{"bare_lf_inside", "GET / HTTP/1.1\nA: b\r\n\r\n", 400},
        Refused{"space_before_colon", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length : 3\r\n\r\n", 400},
        Refused{"no_colon", "GET / HTTP/1.1\r\nHost: h\r\nabc\r\n\r\n", 400},
        Refused{"empty_name", "GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", 400},
        Refused{"control_in_value", std::string("GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", 35), 400},
        Refused{"lone_cr_in_value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", 400},
        Refused{"absolute_target", "GET http://x/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        Refused{"space_in_target", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        Refused{"no_version", "GET /\r\n\r\n", 400},
        Refused{"no_host", "GET / HTTP/1.1\r\n\r\n", 400},
        Refused{"host_twice", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
        Refused{"only_bare_lf", "GET / HTTP/1.1\nHost: h\n\n", 400},
        Refused{"version_2", "GET / HTTP/2.0\r\n\r\n", 505},
        Refused{"bad_method", "G@T / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        Refused{"too_many_headers", many_headers(65), 431},
        Refused{"too_long", "GET / HTTP/1.1\r\nHost: h\r\nA: " + std::string(20'000, 'x'), 431}),
    [](const auto& which) { return std::string(which.param.name); });

TEST(Http, ReadsARequest) {
  const std::string text = "POST /v1/x?a=1&b=2 HTTP/1.1\r\nHost: h\r\nContent-Length:  12 \r\nX-Key:\tv w\t\r\n\r\nhello";
  Head head;
  HeadError error;
  ASSERT_EQ(parse_request(text, head, error), Parse::done) << error.message;
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.path(), "/v1/x");
  EXPECT_EQ(head.query(), "a=1&b=2");
  EXPECT_EQ(head.body.kind, BodyLength::Kind::sized);
  EXPECT_EQ(head.body.bytes, 12U);
  EXPECT_EQ(head.find("x-key"), "v w");
  EXPECT_FALSE(head.find("absent"));
  EXPECT_TRUE(head.keep_alive);
  EXPECT_EQ(text.substr(head.bytes), "hello");
}

TEST(Http, AsksForMoreAtEveryPrefix) {
  const std::string text = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  Head head;
  HeadError error;
  for (std::size_t n = 0; n < text.size(); ++n) EXPECT_EQ(parse_request(text.substr(0, n), head, error), Parse::more) << n;
  EXPECT_EQ(parse_request(text, head, error), Parse::done);
}

TEST(Http, KeepAliveFollowsVersionAndConnection) {
  const auto keeps = [](const std::string& text) {
    Head head;
    HeadError error;
    EXPECT_EQ(parse_request(text, head, error), Parse::done);
    return head.keep_alive;
  };
  EXPECT_TRUE(keeps("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive, Close\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
}

TEST(Http, ReadsResponses) {
  Head head;
  HeadError error;
  ASSERT_EQ(parse_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, head, error), Parse::done);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.body.kind, BodyLength::Kind::chunked);
  ASSERT_EQ(parse_response("HTTP/1.1 404\r\nContent-Length: 5\r\n\r\n", false, head, error), Parse::done);
  EXPECT_EQ(head.body.bytes, 5U);
  ASSERT_EQ(parse_response("HTTP/1.1 200 OK\r\n\r\n", false, head, error), Parse::done);
  EXPECT_EQ(head.body.kind, BodyLength::Kind::until_close);
  EXPECT_FALSE(head.keep_alive);
  ASSERT_EQ(parse_response("HTTP/1.1 204 No Content\r\n\r\n", false, head, error), Parse::done);
  EXPECT_EQ(head.body.kind, BodyLength::Kind::none);
  ASSERT_EQ(parse_response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, head, error), Parse::done);
  EXPECT_EQ(head.body.kind, BodyLength::Kind::none);
  EXPECT_EQ(parse_response("HTTP/1.1 2000 OK\r\n\r\n", false, head, error), Parse::bad);
  EXPECT_EQ(parse_response("SSH-2.0-OpenSSH_9.2 xxxxxxxxxxx\r\n\r\n", false, head, error), Parse::bad);
  EXPECT_EQ(error.status, 502);
}

TEST(ChunkScanner, WhatIsNoContentIsBounded) {
  const auto bad = [](const std::string& data) {
    ChunkScanner scanner;
    scanner.scan(data, [](std::string_view) {});
    return scanner.bad();
  };
  EXPECT_FALSE(bad("000000000000001\r\nx\r\n"));
  EXPECT_TRUE(bad("00000000000000001\r\nx\r\n")) << "a size that does not end";
  std::string extensions;
  for (int i = 0; i < 20; ++i) extensions += "1;" + std::string(1000, 'e') + "\r\nx\r\n";
  EXPECT_TRUE(bad(extensions));
  std::string trailers = "0\r\n";
  for (int i = 0; i < 5000; ++i) trailers += "T: t\r\n";
  EXPECT_TRUE(bad(trailers));
}

TEST(ChunkScanner, FindsContentAndEndAtEverySplit) {
  const std::string body = "5\r\nhello\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
  const std::string data = body + "GET";
  for (std::size_t split = 0; split <= data.size(); ++split) {
    ChunkScanner scanner;
    std::string content;
    const auto collect = [&](std::string_view run) { content += run; };
    std::size_t used = scanner.scan(std::string_view(data).substr(0, split), collect);
    used += scanner.scan(std::string_view(data).substr(split), collect);
    EXPECT_TRUE(scanner.done()) << split;
    EXPECT_EQ(content, "hello0123456789") << split;
    EXPECT_EQ(used, body.size()) << split;
  }
}

TEST(ChunkScanner, RefusesBrokenFraming) {
  for (const std::string text : {"x\r\n", "\r\n", "5\nhello", "5\r\nhelloX", "5\r\nhello\rX", "FFFFFFFFFFFFFFFF\r\n", "1;a\nb\r\n", "0\r\n\n"}) {
    ChunkScanner scanner;
    scanner.scan(text, [](std::string_view) {});
    EXPECT_TRUE(scanner.bad()) << text;
  }
}

TEST(ChunkScanner, CompletesABrokenOffChunk) {
  const auto completed = [](const std::string& text) {
    ChunkScanner scanner;
    scanner.scan(text, [](std::string_view) {});
    std::string out;
    return scanner.complete_chunk(out) ? text + out : "impossible";
  };
  EXPECT_EQ(completed("5\r\nhel"), "5\r\nhel\n\n\r\n");
  EXPECT_EQ(completed("5\r\nhello"), "5\r\nhello\r\n");
  EXPECT_EQ(completed("5\r\nhello\r"), "5\r\nhello\r\n");
  EXPECT_EQ(completed("5\r\nhello\r\n"), "5\r\nhello\r\n");
  EXPECT_EQ(completed("5\r"), "impossible");
  EXPECT_EQ(completed("FFFFFFF\r\nx"), "impossible");
}

}  // namespace
}  // namespace thaw::net
