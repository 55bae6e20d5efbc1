/// hostile-engine --socket PATH | --host IPV4 --port N: an HTTP server with as much of OpenAI's API as it takes to be asked.
///
///     prompt "attack NAME key=value …"   makes the attempts, and answers what came of them
///     prompt "memory"                    takes memory until it is killed
///     prompt "log MIB"                   writes so much to its output
///     prompt "disk DIRECTORY MIB"        writes so much through to the disk, and answers how many milliseconds that took
///     prompt "spin SECONDS THREADS"      uses the processors
///     prompt "swap-socket PATH"          puts a link to PATH where its socket was
///     prompt "put FILE TEXT"             writes a file
///     prompt "cat FILE"                  reads a file, and says whose it is
///     anything else                      says "ok"
///
/// hostile-engine --prompt "attack network": the answer to one prompt on standard output, to be run by hand.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <thread>
#include <vector>

#include "attempt.h"

namespace thaw::hostile {
namespace {

constexpr std::size_t kMaxRequest = 256 * 1024;

std::string socket_path;

/// The value of "prompt" in a JSON body; escapes are not undone, prompts here have none.
std::string prompt_of(const std::string& body) {
  const std::size_t key = body.find("\"prompt\"");
  if (key == std::string::npos) return {};
  const std::size_t begin = body.find('"', body.find(':', key)) + 1;
  return body.substr(begin, body.find('"', begin) - begin);
}

std::string json_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (c == '"' || c == '\\')
      out += std::string("\\") + c;
    else if (static_cast<unsigned char>(c) >= ' ')
      out += c;
  }
  return out;
}

void write_log(long mib) {
  const std::string line(1023, 'x');
  for (long i = 0; i < mib * 1024; ++i) std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

void spin(long seconds, long threads) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  std::vector<std::thread> all;
  for (long i = 0; i < threads; ++i)
    all.emplace_back([until] {
      while (std::chrono::steady_clock::now() < until) {
      }
    });
  for (std::thread& one : all) one.join();
}

std::string answer_to(const std::string& prompt) {
  std::istringstream words(prompt);
  std::string verb;
  std::string name;
  words >> verb >> name;
  if (verb == "memory") memory_bomb();
  if (verb == "disk") {
    long mib = 1;
    words >> mib;
    return std::to_string(write_through(name, mib));
  }
  if (verb == "log") return write_log(std::strtol(name.c_str(), nullptr, 10)), "written";
  if (verb == "spin") {
    long threads = 1;
    words >> threads;
    return spin(std::strtol(name.c_str(), nullptr, 10), threads), "spun";
  }
  if (verb == "swap-socket") return swap_socket(socket_path, name).succeeded ? "swapped" : "not swapped";
  if (verb == "put") {
    std::string text;
    words >> text;
    std::FILE* file = std::fopen(name.c_str(), "w");
    if (file == nullptr) return std::string("cannot open: ") + std::strerror(errno);
    const bool written = std::fputs(text.c_str(), file) >= 0 && std::fflush(file) == 0;
    const int error = errno;
    std::fclose(file);
    return written ? "written" : std::string("cannot write: ") + std::strerror(error);
  }
  if (verb == "cat") {
    std::string text(4096, '\0');
    std::FILE* file = std::fopen(name.c_str(), "r");
    if (file == nullptr) return std::string("cannot open: ") + std::strerror(errno);
    text.resize(std::fread(text.data(), 1, text.size(), file));
    std::fclose(file);
    struct stat info {};
    ::stat(name.c_str(), &info);
    char mode[16];
    std::snprintf(mode, sizeof mode, "%o", info.st_mode & 07777U);
    return "mode=" + std::string(mode) + " mine=" + (info.st_uid == ::getuid() ? "yes" : "no") + " text=" + text;
  }
  if (verb != "attack") return "ok";
  std::map<std::string, std::string> values;
  for (std::string word; words >> word;)
    if (const std::size_t equals = word.find('='); equals != std::string::npos) values[word.substr(0, equals)] = word.substr(equals + 1);
  return attack(name, Params(values));
}

void send_all(int fd, const std::string& text) {
  std::size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t wrote = ::send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (wrote <= 0) return;
    sent += static_cast<std::size_t>(wrote);
  }
}

/// One request, then the connection is closed.
void serve(int fd) {
  std::string in;
  std::size_t head = std::string::npos;
  std::size_t length = 0;
  while (in.size() < kMaxRequest && (head == std::string::npos || in.size() < head + length)) {
    char buffer[8192];
    const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
    if (got <= 0) break;
    in.append(buffer, static_cast<std::size_t>(got));
    if (head == std::string::npos && in.find("\r\n\r\n") != std::string::npos) {
      head = in.find("\r\n\r\n") + 4;
      const std::size_t at = in.find("ontent-");
      for (std::size_t line = at; line != std::string::npos && line < head; line = in.find("\r\n", line + 1))
        if (const std::size_t field = in.find("ength:", line); field != std::string::npos && field < head) {
          length = static_cast<std::size_t>(std::strtoul(in.c_str() + field + 6, nullptr, 10));
          break;
        }
    }
  }
  std::string body = R"({"status":"ok"})";
  if (in.starts_with("POST") && head != std::string::npos)
    body = R"({"id":"x","object":"text_completion","created":0,"model":"hostile","choices":[{"index":0,"text":")" + json_text(answer_to(prompt_of(in.substr(head)))) +
           R"(","finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}})";
  send_all(fd, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  ::close(fd);
}

int listen_at(const std::string& host, int port) {
  if (!socket_path.empty()) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && ::listen(fd, 64) == 0 ? fd : -1;
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  ::inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  return ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && ::listen(fd, 64) == 0 ? fd : -1;
}

int run(int argc, char** argv) {
  std::string host = "127.0.0.1";
  int port = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--socket") socket_path = argv[i + 1];
    if (flag == "--host") host = argv[i + 1];
    if (flag == "--prompt") return std::printf("%s\n", answer_to(argv[i + 1]).c_str()) > 0 ? 0 : 1;
    if (flag == "--port") port = static_cast<int>(std::strtol(argv[i + 1], nullptr, 10));
  }
  std::signal(SIGTERM, +[](int) { ::_exit(0); });
  const int listener = listen_at(host, port);
  if (listener < 0) {
    std::perror("hostile-engine: cannot listen");
    return 1;
  }
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) std::thread(serve, fd).detach();
  }
}

}  // namespace
}  // namespace thaw::hostile

int main(int argc, char** argv) { return thaw::hostile::run(argc, argv); }
