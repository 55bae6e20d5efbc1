#include "cli/client.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include <gtest/gtest.h>

#include "cli/files.h"
#include "cli/interrupt.h"
#include "unit/cli/fake_server.h"

namespace thaw::cli {
namespace {

using base::ErrorKind;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Client, SendsKeyAndBodyAndReadsTheAnswer) {
  FakeServer server([](const auto&, const auto& connection) { connection.answer(201, "{\"ok\":true}"); });
  const auto response = Client({server.url(), "thaw_k"}).send({"POST", "/admin/v1/models", "{\"a\":1}"});
  ASSERT_TRUE(response.ok()) << response.error().message;
  EXPECT_EQ(response->status, 201);
  EXPECT_EQ(response->body, "{\"ok\":true}");
  EXPECT_EQ(response->request_id, "req-7");
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].method, "POST");
  EXPECT_EQ(requests[0].target, "/admin/v1/models");
  EXPECT_EQ(requests[0].body, "{\"a\":1}");
  EXPECT_TRUE(contains(requests[0].head, "Authorization: Bearer thaw_k"));
  EXPECT_TRUE(contains(requests[0].head, "Content-Type: application/json"));
}

TEST(Client, WithoutAKeySendsNoneAndAPostWithoutBodyIsEmpty) {
  FakeServer server([](const auto&, const auto& connection) { connection.answer(200, "{}"); });
  ASSERT_TRUE(Client({server.url(), ""}).send({"POST", "/x", ""}).ok());
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_FALSE(contains(requests[0].head, "Authorization"));
  EXPECT_TRUE(contains(requests[0].head, "Content-Length: 0"));
}

TEST(Client, SaysWhyAServerIsNotReachedAndWhatToDo) {
  const std::string url = unreachable_url();
  const auto response = Client({url, ""}).send({"GET", "/", ""});
  ASSERT_FALSE(response.ok());
  EXPECT_EQ(response.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(response.error().message,
            "cannot reach thaw at " + url + ": connection refused; start it with `thaw serve` or set THAW_URL");
}

TEST(Client, RefusesWhatIsNoHttpUrl) {
  for (const char* url : {"file:///etc/passwd", "gopher://x", "http://", ":"}) {
    const auto response = Client({url, ""}).send({"GET", "/", ""});
    ASSERT_FALSE(response.ok()) << url;
    EXPECT_EQ(response.error().kind, ErrorKind::invalid) << url << ": " << response.error().message;
  }
}

TEST(Client, TellsKindsOfRefusalApartAndPassesTheMessageOn) {
  std::atomic<int> status{0};
  FakeServer server(
      [&](const auto&, const auto& connection) { connection.answer(status, R"({"error":{"message":"because"}})"); });
  const std::vector<std::pair<int, ErrorKind>> cases{{400, ErrorKind::invalid},   {401, ErrorKind::denied},
                                                     {404, ErrorKind::not_found}, {409, ErrorKind::conflict},
                                                     {429, ErrorKind::exhausted}, {503, ErrorKind::exhausted},
                                                     {500, ErrorKind::internal},  {301, ErrorKind::internal}};
  for (const auto& [code, kind] : cases) {
    status = code;
    const auto response = Client({server.url(), ""}).send({"GET", "/", ""});
    ASSERT_FALSE(response.ok()) << code;
    EXPECT_EQ(response.error().kind, kind) << code;
    EXPECT_TRUE(response.error().message.starts_with("because")) << response.error().message;
    EXPECT_EQ(contains(response.error().message, "THAW_API_KEY"), code == 401) << code;
  }
}

TEST(Client, ANotFoundWithoutAnErrorObjectIsNoMissingModelButTheWrongServer) {
  FakeServer server([](const auto&, const auto& connection) { connection.answer(404, "<html>nope"); });
  const auto response = Client({server.url(), ""}).send({"GET", "/admin/v1/models", ""});
  ASSERT_FALSE(response.ok());
  EXPECT_EQ(response.error().kind, ErrorKind::internal);
  EXPECT_TRUE(contains(response.error().message, "is it a thaw server")) << response.error().message;
}

TEST(Client, AConnectionThatBreaksOffIsAnErrorNotAShortAnswer) {
  FakeServer server([](const auto&, const auto& connection) {
    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
  });
  const auto response = Client({server.url(), ""}).send({"GET", "/", ""});
  ASSERT_FALSE(response.ok());
  EXPECT_EQ(response.error().kind, ErrorKind::io);
}

TEST(Client, StreamsPiecesAsTheyComeAndCollectsErrors) {
  FakeServer server([](const auto& request, const auto& connection) {
    if (request.target == "/bad") return connection.answer(503, R"({"error":{"message":"full"}})");
    connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-request-id:  abc \r\n\r\n5\r\nhello\r\n");
    connection.send("6\r\n world\r\n0\r\n\r\n");
  });
  std::string got;
  StreamHandler handler;
  handler.on_data = [&](std::string_view bytes) {
    got += bytes;
    return base::Status();
  };
  const auto outcome = Client({server.url(), ""}).stream({"GET", "/good", ""}, handler);
  ASSERT_TRUE(outcome.ok()) << outcome.error().message;
  EXPECT_EQ(outcome->end, StreamEnd::complete);
  EXPECT_EQ(outcome->response.request_id, "abc");
  EXPECT_EQ(got, "hello world");

  got.clear();
  const auto bad = Client({server.url(), ""}).stream({"GET", "/bad", ""}, handler);
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().message, "full");
  EXPECT_EQ(got, "");
}

TEST(Client, AHandlersRefusalEndsTheStreamWithItsError) {
  FakeServer server([](const auto&, const auto& connection) { connection.answer(200, "data"); });
  StreamHandler handler;
  handler.on_data = [](std::string_view) { return base::Status(base::Error{ErrorKind::conflict, "enough"}); };
  const auto outcome = Client({server.url(), ""}).stream({"GET", "/", ""}, handler);
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().message, "enough");
}

TEST(Client, AnInterruptClosesTheConnectionAtOnce) {
  std::atomic<bool> closed{false};
  const FileDescriptor interrupt(eventfd(0, EFD_CLOEXEC));
  StreamHandler handler;
  handler.interrupt_fd = interrupt.get();
  handler.on_data = [&](std::string_view) {
    const std::uint64_t one = 1;
    EXPECT_EQ(write(interrupt.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
    return base::Status();
  };
  {
    FakeServer server([&](const auto&, const auto& connection) {
      connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
      closed = connection.closed_by_client(10'000);
    });
    const auto outcome = Client({server.url(), ""}).stream({"GET", "/", ""}, handler);
    ASSERT_TRUE(outcome.ok()) << outcome.error().message;
    EXPECT_EQ(outcome->end, StreamEnd::interrupted);
  }
  EXPECT_TRUE(closed);
}

TEST(Client, PathsAreSentAsTheyAre) {
  FakeServer server([](const auto&, const auto& connection) { connection.answer(200, "{}"); });
  ASSERT_TRUE(Client({server.url(), ""}).send({"GET", "/admin/v1/models/" + percent_encode(".."), ""}).ok());
  ASSERT_TRUE(Client({server.url(), ""}).send({"GET", "/m/" + percent_encode("a/b ?ü"), ""}).ok());
  EXPECT_EQ(server.requests()[0].target, "/admin/v1/models/..");
  EXPECT_EQ(server.requests()[1].target, "/m/a%2Fb%20%3F%C3%BC");
}

TEST(Interrupt, CatchesControlCAndLeavesNoneBehind) {
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  ASSERT_EQ(sigismember(&before, SIGINT), 0);
  {
    const Interrupt interrupt;
    EXPECT_FALSE(interrupt.wait_for(base::Millis(1)));
    ASSERT_EQ(raise(SIGINT), 0);
    EXPECT_TRUE(interrupt.wait_for(base::Seconds(5)));
  }
  sigset_t after;
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  EXPECT_EQ(sigismember(&after, SIGINT), 0);  // and the process lives: the pending signal was taken
}

}  // namespace
}  // namespace thaw::cli
