// Pulls from a web server that answers truly, slowly, falsely, or not to the end.
#include "node/pull/puller.h"

#include <sys/stat.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>

#include <gtest/gtest.h>

#include "node/pull/journal.h"
#include "unit/node/file_server.h"
#include "unit/node/noise.h"
#include "unit/temp_dir.h"

namespace thaw::node::pull {
namespace {

using test::FileServer;
using test::Served;
using test::ServedRequest;
using test::noise;
using test::sha256_of;

class Pull : public ::testing::Test {
 protected:
  Pull() {
    options_.fetch.rules.allow_http = true;
    options_.fetch.rules.private_hosts = {"127.0.0.1"};
    options_.limits.connections = 4;
    options_.limits.backoff = {base::Millis(1), base::Millis(5), 6};
    options_.limits.longest_retry_after = base::Seconds(2);
  }

  /// Declared after what an answer refers to: ends the server, whose connections may be answering still, before that goes.
  struct Ending {
    std::unique_ptr<FileServer>& server;
    ~Ending() { server.reset(); }
  };
  void open(FileServer::Answer answer) { server_ = std::make_unique<FileServer>(std::move(answer)); }

  BlobStore& store() {
    if (!store_) {
      store_ = std::make_unique<BlobStore>(directory_.file("store"), budget_);
      EXPECT_TRUE(store_->open().ok());
    }
    return *store_;
  }

  Puller& puller() {
    if (!puller_)
      puller_ = std::make_unique<Puller>(store(), options_, [this](const PullView& view) {
        const std::lock_guard lock(mutex_);
        ended_.push_back(view);
        changed_.notify_all();
      });
    return *puller_;
  }

  PullView wait_for(std::uint64_t id) {
    std::unique_lock lock(mutex_);
    const auto mine = [&] { return std::find_if(ended_.begin(), ended_.end(), [id](const PullView& view) { return view.id == id; }); };
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return mine() != ended_.end(); }));
    return mine() == ended_.end() ? PullView{} : *mine();
  }

  PullView pull(const spec::Source& source, bool directory = false) {
    const auto id = puller().start({source, directory, true});
    EXPECT_TRUE(id.ok());
    return wait_for(*id);
  }
  PullView pull_url(const std::string& path = "/m.gguf", const std::string& sha256 = "") {
    spec::Source source;
    source.url = server_->url(path);
    source.sha256 = sha256;
    return pull(source);
  }
  PullView pull_hub(const std::string& ref, bool directory = false) {
    options_.hub_endpoint = server_->url("");
    options_.hub_token = "hf_secret";
    puller_.reset();
    ended_.clear();
    spec::Source source;
    source.hf = ref;
    return pull(source, directory);
  }

  static std::string read(const std::string& path) {
    std::error_code error;
    std::string bytes(std::filesystem::file_size(path, error), '\0');
    std::ifstream(path, std::ios::binary).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return bytes;
  }
  [[nodiscard]] std::size_t files_in(const std::string& below) const {
    std::size_t count = 0;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.file("store/" + below), error)) count += entry.exists() ? 1U : 0U;
    return count;
  }
  void expect_pulled(const PullView& view, const std::string& bytes) {
    ASSERT_EQ(view.state, PullState::done) << view.error.message;
    EXPECT_EQ(sha256_of(read(view.path)), sha256_of(bytes));
    EXPECT_EQ(view.done_bytes, bytes.size());
    EXPECT_EQ(view.total_bytes, bytes.size());
    EXPECT_EQ(files_in("tmp"), 0U);
    EXPECT_EQ(files_in("blobs/sha256"), 1U);
  }
  /// It failed, says so, and nothing has a final name.
  void expect_failed(const PullView& view, base::ErrorKind kind, const std::string& part) {
    ASSERT_EQ(view.state, PullState::failed);
    EXPECT_EQ(view.error.kind, kind) << view.error.message;
    EXPECT_NE(view.error.message.find(part), std::string::npos) << view.error.message;
    EXPECT_EQ(files_in("blobs/sha256"), 0U);
    EXPECT_EQ(files_in("sets"), 0U);
    EXPECT_EQ(files_in("sources"), 0U);
  }

  const test::TempDir directory_;
  PullerOptions options_;
  std::optional<std::uint64_t> budget_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<PullView> ended_;
  std::unique_ptr<FileServer> server_;
  std::unique_ptr<BlobStore> store_;
  std::unique_ptr<Puller> puller_;
};

const std::string kFile = noise((20U << 20) + 12'345);
const std::string kSmall = noise(70'001);

TEST_F(Pull, FetchesByRangesSideBySide) {
  open([](const ServedRequest& request) { return FileServer::serve(request, kFile); });
  const PullView view = pull_url("/dir/m%20x.gguf?a=b", sha256_of(kFile));
  expect_pulled(view, kFile);
  EXPECT_TRUE(view.path.ends_with("/m_x.gguf")) << view.path;
  EXPECT_EQ(view.fetched_bytes, kFile.size());
  EXPECT_GT(server_->requests().size(), 4U);
  struct stat status {};
  ASSERT_EQ(::stat(view.path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0644U) << "engines are other users";
  // What is there is not fetched again, whatever it is called.
  const std::uint64_t sent = server_->sent_bytes();
  const PullView again = pull_url("/other.gguf", sha256_of(kFile));
  EXPECT_EQ(again.state, PullState::done);
  EXPECT_EQ(again.fetched_bytes, 0U);
  EXPECT_EQ(server_->sent_bytes(), sent);
}

TEST_F(Pull, FetchesInOneStreamFromAServerWithoutRanges) {
  open([](const ServedRequest&) { return Served{200, "", kFile, {}, {}, false, 0}; });
  expect_pulled(pull_url(), kFile);
  EXPECT_EQ(server_->requests().size(), 1U);
}

TEST_F(Pull, FetchesWhatHasNoLength) {
  open([](const ServedRequest&) { return Served{200, "", kFile, {}, {}, true, 0}; });
  const PullView view = pull_url();
  ASSERT_EQ(view.state, PullState::done) << view.error.message;
  EXPECT_EQ(read(view.path), kFile);
}

TEST_F(Pull, GoesOnWhereConnectionsAreCut) {
  std::atomic<int> count{0};
  open([&count](const ServedRequest& request) {
    Served served = FileServer::serve(request, kFile);
    if (++count % 3 == 0) served.cut_after = served.body.size() / 2;
    return served;
  });
  const Ending ending{server_};
  const PullView view = pull_url("/m.gguf", sha256_of(kFile));
  expect_pulled(view, kFile);
  EXPECT_EQ(view.fetched_bytes, kFile.size()) << "nothing came twice";
}

TEST_F(Pull, BeginsAnewWhenAStreamIsCut) {
  std::atomic<int> count{0};
  open([&count](const ServedRequest&) {
    Served served{200, "", kSmall, {}, {}, false, 0};
    if (++count < 3) served.cut_after = 50'000;
    return served;
  });
  const Ending ending{server_};
  expect_pulled(pull_url(), kSmall);
  EXPECT_EQ(count, 3);
}

TEST_F(Pull, GivesUpOnAServerThatAlwaysCuts) {
  open([](const ServedRequest&) { return Served{200, "", kSmall, 100, {}, false, 0}; });
  expect_failed(pull_url(), base::ErrorKind::unavailable, "after 7 tries");
}

TEST_F(Pull, NoticesALengthThatIsALie) {
  open([](const ServedRequest&) { return Served{200, "", kSmall, {}, kSmall.size() + 10, false, 0}; });
  expect_failed(pull_url(), base::ErrorKind::unavailable, "broke the connection off");
}

TEST_F(Pull, NoticesARangeThatWasNotAskedFor) {
  open([](const ServedRequest& request) {
    Served served = FileServer::serve(request, kFile);
    served.headers = "Content-Range: bytes 7-" + std::to_string(6 + served.body.size()) + "/" + std::to_string(kFile.size()) + "\r\n";
    return served;
  });
  expect_failed(pull_url(), base::ErrorKind::invalid, "Content-Range: bytes 7-");
}

TEST_F(Pull, KeepsNothingOfTheWrongBytes) {
  open([](const ServedRequest& request) { return FileServer::serve(request, kFile); });
  expect_failed(pull_url("/m.gguf", std::string(64, '0')), base::ErrorKind::conflict, sha256_of(kFile));
  EXPECT_EQ(files_in("tmp"), 0U);
}

TEST_F(Pull, BeginsAgainWhenTheFileChangesMeanwhile) {
  const std::string newer = noise(kFile.size() + 99);
  std::atomic<int> count{0};
  open([&](const ServedRequest& request) {
    return ++count <= 2 ? FileServer::serve(request, kFile, "\"v1\"") : FileServer::serve(request, newer, "\"v2\"");
  });
  const Ending ending{server_};
  const PullView view = pull_url();
  ASSERT_EQ(view.state, PullState::done) << view.error.message;
  EXPECT_EQ(sha256_of(read(view.path)), sha256_of(newer)) << "of one version all of it";
}

TEST_F(Pull, GivesUpOnAFileThatChangesAllTheTime) {
  std::atomic<int> count{0};
  open([&count](ServedRequest request) {
    request.headers.erase("if-range");  // nor does it ask which one is meant
    return FileServer::serve(request, kFile, "\"v" + std::to_string(++count) + "\"");
  });
  const Ending ending{server_};
  expect_failed(pull_url(), base::ErrorKind::conflict, "changes again and again");
}

TEST_F(Pull, WaitsForABusyServerAndForWhatItAsks) {
  std::atomic<int> count{0};
  open([&count](const ServedRequest& request) {
    const int number = ++count;
    if (number == 1) return Served{503, "", "busy", {}, {}, false, 0};
    if (number == 2) return Served{429, "Retry-After: 1\r\n", "slow down", {}, {}, false, 0};
    return FileServer::serve(request, kSmall);
  });
  const Ending ending{server_};
  const auto begun = std::chrono::steady_clock::now();
  expect_pulled(pull_url(), kSmall);
  EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::seconds(1));
}

TEST_F(Pull, DoesNotWaitForHours) {
  open([](const ServedRequest&) { return Served{429, "Retry-After: 3600\r\n", "", {}, {}, false, 0}; });
  expect_failed(pull_url(), base::ErrorKind::unavailable, "left alone for 1h");
}

TEST_F(Pull, TakesFewerConnectionsWhenTheServerWantsThat) {
  std::atomic<int> count{0};
  open([&count](const ServedRequest& request) {
    const int number = ++count;
    if (number >= 2 && number <= 4) return Served{429, "Retry-After: 3600\r\n", "too many", {}, {}, false, 0};
    Served served = FileServer::serve(request, kFile);
    if (number == 1) served.pause_ms = 1;
    return served;
  });
  const Ending ending{server_};
  expect_pulled(pull_url(), kFile);
}

TEST_F(Pull, SaysWhatAServerRefuses) {
  open([](const ServedRequest& request) {
    if (request.path == "/gone.gguf") return Served{404, "", "", {}, {}, false, 0};
    if (request.path == "/secret.gguf") return Served{401, "X-Error-Message: Access to model o/r is restricted.\r\n", "", {}, {}, false, 0};
    return Served{418, "", "", {}, {}, false, 0};
  });
  expect_failed(pull_url("/gone.gguf"), base::ErrorKind::not_found, "HTTP 404");
  expect_failed(pull_url("/secret.gguf"), base::ErrorKind::denied, "Access to model o/r is restricted.");
  expect_failed(pull_url("/tea.gguf"), base::ErrorKind::invalid, "HTTP 418");
}

TEST_F(Pull, RefusesPrivateAddressesAlsoBehindNamesAndRedirects) {
  open([](const ServedRequest& request) { return FileServer::serve(request, kSmall); });
  options_.fetch.rules.private_hosts.clear();
  expect_failed(pull_url(), base::ErrorKind::denied, "127.0.0.1, an address of a private network");
  spec::Source source;
  source.url = server_->url("/m.gguf");
  source.url.replace(source.url.find("127.0.0.1"), 9, "localhost");
  expect_failed(pull(source), base::ErrorKind::denied, "localhost is at ");
  EXPECT_TRUE(server_->requests().empty());
}

TEST_F(Pull, FollowsRedirectsWithinBounds) {
  FileServer other([](const ServedRequest& request) { return FileServer::serve(request, kSmall); });
  std::atomic<bool> for_ever{false};
  open([&](const ServedRequest& request) {
    const std::string to = for_ever ? "/again" : request.path == "/m.gguf" ? "/step" : other.url("/final?sig=1");
    return Served{302, "Location: " + to + "\r\n", "moved", {}, {}, false, 0};
  });
  const Ending ending{server_};
  expect_pulled(pull_url(), kSmall);
  for_ever = true;
  const PullView view = pull_url("/loop.gguf");
  ASSERT_EQ(view.state, PullState::failed);
  EXPECT_NE(view.error.message.find("more than 5 times"), std::string::npos) << view.error.message;
}

TEST_F(Pull, RefusesARedirectToAPrivateAddress) {
  open([](const ServedRequest& request) {
    std::string to = "http://localhost:" + request.headers.at("host").substr(request.headers.at("host").find(':') + 1) + "/inner";
    return Served{302, "Location: " + to + "\r\n", "", {}, {}, false, 0};
  });
  expect_failed(pull_url(), base::ErrorKind::denied, "localhost is at ");
  EXPECT_EQ(server_->requests().size(), 1U) << "it was asked once, and not the inner one";
}

std::string listing(const std::string& files) {
  return R"({"sha":"c0ffee","siblings":[)" + files + "]}";
}
std::string lfs(const std::string& name, const std::string& bytes) {
  return R"({"rfilename":")" + name + R"(","size":)" + std::to_string(bytes.size()) + R"(,"lfs":{"sha256":")" + sha256_of(bytes) + R"(","size":)" +
         std::to_string(bytes.size()) + "}}";
}

TEST_F(Pull, FetchesFromAHubAtTheCommitAndShowsTheTokenToItAlone) {
  FileServer cdn([](const ServedRequest& request) { return FileServer::serve(request, kFile); });
  open([&](const ServedRequest& request) {
    if (request.path == "/api/models/o/r/revision/main?blobs=true") return Served{200, "", listing(lfs("d/m-Q4_0.gguf", kFile)), {}, {}, false, 0};
    if (request.path == "/o/r/resolve/c0ffee/d/m-Q4_0.gguf") return Served{302, "Location: " + cdn.url("/blob") + "\r\n", "", {}, {}, false, 0};
    return Served{404, "", "", {}, {}, false, 0};
  });
  const Ending ending{server_};
  const PullView view = pull_hub("o/r:Q4_0");
  expect_pulled(view, kFile);
  EXPECT_TRUE(view.path.ends_with("/m-Q4_0.gguf"));
  for (const ServedRequest& request : server_->requests()) EXPECT_EQ(request.headers.at("authorization"), "Bearer hf_secret");
  for (const ServedRequest& request : cdn.requests()) EXPECT_FALSE(request.headers.contains("authorization"));
}

TEST_F(Pull, FetchesADirectoryAndChecksGitBlobs) {
  // printf '{}\n' | git hash-object --stdin
  const std::string config = "{}\n";
  std::string blob = "0967ef424bce6791893e9a57bb952f80fd536e93";
  open([&](const ServedRequest& request) {
    if (request.path.starts_with("/api/"))
      return Served{200,
                    "",
                    listing(lfs("model.safetensors", kSmall) + R"(,{"rfilename":"config.json","size":3,"blobId":")" + blob +
                            R"("},{"rfilename":"x.py","size":1})"),
                    {},
                    {},
                    false,
                    0};
    return FileServer::serve(request, request.path.ends_with("config.json") ? config : kSmall);
  });
  const Ending ending{server_};
  const PullView view = pull_hub("o/r", true);
  ASSERT_EQ(view.state, PullState::done) << view.error.message;
  EXPECT_EQ(read(view.path + "/config.json"), config);
  EXPECT_EQ(read(view.path + "/model.safetensors"), kSmall);
  EXPECT_FALSE(std::filesystem::exists(view.path + "/x.py"));
  blob.back() = '4';
  const PullView wrong = pull_hub("o/r@other", true);
  ASSERT_EQ(wrong.state, PullState::failed);
  EXPECT_NE(wrong.error.message.find("was changed on its way"), std::string::npos) << wrong.error.message;
}

TEST_F(Pull, FetchesAllPartsOfASplitFileByUrl) {
  open([](const ServedRequest& request) {
    return FileServer::serve(request, request.path.find("00001") != std::string::npos ? kSmall : kSmall + "2");
  });
  const PullView view = pull_url("/m-00001-of-00002.gguf");
  ASSERT_EQ(view.state, PullState::done) << view.error.message;
  EXPECT_TRUE(view.path.ends_with("/m-00001-of-00002.gguf"));
  EXPECT_EQ(read(std::filesystem::path(view.path).parent_path() / "m-00002-of-00002.gguf"), kSmall + "2");
}

TEST_F(Pull, SaysWhatAHubRefuses) {
  open([](const ServedRequest& request) { return Served{request.path.find("gated") != std::string::npos ? 403 : 404, "", "", {}, {}, false, 0}; });
  expect_failed(pull_hub("o/gated"), base::ErrorKind::denied, "its owner's consent");
  expect_failed(pull_hub("o/none"), base::ErrorKind::not_found, "the hub has no o/none at main");
}

TEST_F(Pull, GoesOnAfterItWasStoppedWithoutFetchingAgainWhatIsThere) {
  std::atomic<bool> slow{true};
  open([&slow](const ServedRequest& request) {
    Served served = FileServer::serve(request, kFile);
    if (slow) served.pause_ms = 5;
    return served;
  });
  const Ending ending{server_};
  spec::Source source;
  source.url = server_->url("/m.gguf");
  const auto id = puller().start({source, false, true});
  ASSERT_TRUE(id.ok());
  while (puller().look(*id)->done_bytes < 3U << 20) std::this_thread::yield();
  EXPECT_TRUE(puller().cancel(*id));
  const PullView stopped = wait_for(*id);
  EXPECT_EQ(stopped.state, PullState::failed);
  EXPECT_EQ(files_in("blobs/sha256"), 0U);
  slow = false;
  puller_.reset();  // as a new process would find it
  ended_.clear();
  const PullView view = pull_url();
  expect_pulled(view, kFile);
  EXPECT_EQ(view.fetched_bytes + stopped.done_bytes, kFile.size());
  EXPECT_GE(stopped.done_bytes, 3U << 20);
}

TEST_F(Pull, DoesNotMixWhatIsThereWithAnotherVersion) {
  std::atomic<bool> second{false};
  std::string other = kFile;
  other.back() = static_cast<char>(other.back() + 1);
  open([&](const ServedRequest& request) {
    Served served = second ? FileServer::serve(request, other, "\"v2\"") : FileServer::serve(request, kFile, "\"v1\"");
    if (!second) served.pause_ms = 5;
    return served;
  });
  const Ending ending{server_};
  spec::Source source;
  source.url = server_->url("/m.gguf");
  const auto id = puller().start({source, false, true});
  while (puller().look(*id)->done_bytes < 2U << 20) std::this_thread::yield();
  puller().cancel(*id);
  wait_for(*id);
  second = true;
  expect_pulled(pull_url(), other);
}

TEST_F(Pull, RefusesWhatDoesNotFitTheBudget) {
  budget_ = 10U << 20;
  open([](const ServedRequest& request) {
    if (request.path.starts_with("/api/")) return Served{200, "", listing(lfs("m.gguf", kFile)), {}, {}, false, 0};
    return FileServer::serve(request, kFile);
  });
  expect_failed(pull_url(), base::ErrorKind::exhausted, "sources.diskBudget");
  expect_failed(pull_hub("o/r"), base::ErrorKind::exhausted, "thaw models gc");
  for (const ServedRequest& request : server_->requests())
    EXPECT_EQ(request.path.find("/resolve/"), std::string::npos) << "the hub says how much it is before anything is fetched";
}

TEST_F(Pull, TheSameIsPulledOnceForAll) {
  open([](const ServedRequest& request) {
    Served served = FileServer::serve(request, kFile);
    served.pause_ms = 1;
    return served;
  });
  spec::Source source;
  source.url = server_->url("/m.gguf");
  const auto one = puller().start({source, false, false});
  const auto two = puller().start({source, false, false});
  EXPECT_EQ(*one, *two);
  EXPECT_EQ(wait_for(*one).state, PullState::done);
}

TEST_F(Pull, CollectsWhatNobodyHas) {
  open([](const ServedRequest& request) { return FileServer::serve(request, request.path == "/a.gguf" ? kFile : kSmall); });
  const PullView a = pull_url("/a.gguf");
  const PullView b = pull_url("/b.gguf");
  ASSERT_EQ(b.state, PullState::done);
  std::ofstream(store().part_path("left")) << "part";
  const auto would = store().collect({a.path}, true);
  ASSERT_TRUE(would.ok());
  EXPECT_EQ(would->size(), 2U);
  EXPECT_EQ(files_in("blobs/sha256"), 2U);
  ASSERT_TRUE(store().collect({a.path}, false).ok());
  EXPECT_EQ(read(a.path), kFile);
  EXPECT_FALSE(std::filesystem::exists(b.path));
  EXPECT_EQ(files_in("blobs/sha256"), 1U);
  EXPECT_EQ(files_in("tmp"), 0U);
  spec::Source source;
  source.url = server_->url("/a.gguf");
  EXPECT_TRUE(store().find(source, false));
  source.url = server_->url("/b.gguf");
  EXPECT_FALSE(store().find(source, false));
}

}  // namespace
}  // namespace thaw::node::pull
