#include "machine.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>

#include "settings.h"

namespace thaw::emulator {
namespace {

using namespace node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface

constexpr off_t kTableByte = 0;        // file locks: of the table,
constexpr off_t kLifeByte = 1000;      // of each process for as long as it lives,
constexpr off_t kCommandByte = 2000;   // and of who asks it for something
constexpr long kWatchNs = 50'000'000;  // how often who waits looks whether the other side still lives

bool file_lock(int fd, int command, short type, off_t at, struct flock* found = nullptr) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = at;
  lock.l_len = 1;
  int status = 0;
  do {
    status = ::fcntl(fd, command, &lock);
  } while (status != 0 && errno == EINTR);
  if (found != nullptr) *found = lock;
  return status == 0;
}

std::uint64_t namespace_of(const std::string& process) {
  struct stat status {};
  return ::stat(("/proc/" + process + "/ns/pid").c_str(), &status) == 0 ? status.st_ino : 0;
}

/// The pid in its own namespace: the last of NSpid.
int innermost_pid(const std::string& process) {
  std::ifstream file("/proc/" + process + "/status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("NSpid:")) continue;
    std::istringstream fields(line.substr(6));
    int pid = 0;
    while (fields >> pid) {
    }
    return pid;
  }
  return 0;
}

}  // namespace

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen) {
  const struct timespec limit { 0, kWatchNs };
  ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, &limit, nullptr, 0);
}
void futex_wake(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

/// The table is this thread's alone.
class Machine::TableLock {
 public:
  explicit TableLock(Machine& machine) : machine_(machine), lock_(machine.mutex_) {
    file_lock(machine_.fd_, F_OFD_SETLKW, F_WRLCK, kTableByte);
  }
  ~TableLock() { file_lock(machine_.fd_, F_OFD_SETLK, F_UNLCK, kTableByte); }
  TableLock(const TableLock&) = delete;
  TableLock& operator=(const TableLock&) = delete;

 private:
  Machine& machine_;
  std::lock_guard<std::mutex> lock_;
};

std::shared_ptr<Machine> Machine::open(const std::string& directory) {
  const int fd = directory.empty() ? ::memfd_create("machine", MFD_CLOEXEC)
                                   : ::open((directory + "/machine").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return nullptr;
  // A hole reads as zeros, which is what an empty table is.
  if (::ftruncate(fd, sizeof(SharedMachine)) != 0) ::abort();
  void* const memory = ::mmap(nullptr, sizeof(SharedMachine), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) ::abort();
  return std::shared_ptr<Machine>(new Machine(directory, fd, static_cast<SharedMachine*>(memory)));
}

Machine::~Machine() {
  ::munmap(shared_, sizeof(SharedMachine));
  ::close(fd_);
}

std::shared_ptr<Machine> Machine::current() {
  static auto* const mutex = new std::mutex;  // neither is ever destroyed: threads may still call
  static auto* const machine = new std::shared_ptr<Machine>;
  const std::string directory = machine_directory();
  const std::lock_guard lock(*mutex);
  if (!*machine || (*machine)->directory() != directory) *machine = open(directory);
  return *machine;
}

int Machine::index_of(const ProcessEntry& entry) const {
  return static_cast<int>(&entry - shared_->processes.data());
}

bool Machine::lives(const ProcessEntry& entry) const {
  if (entry.used.load() == 0) return false;
  // The lock belongs to the open file, so that asking for one's own says that it is free.
  if (entry.pid_namespace == namespace_of("self")) {
    if (entry.pid == ::getpid()) return true;
    // A child that it forked may still hold the lock.
    if (::kill(entry.pid, 0) != 0 && errno == ESRCH) return false;
  }
  struct flock found {};
  return file_lock(fd_, F_OFD_GETLK, F_WRLCK, kLifeByte + index_of(entry), &found) && found.l_type != F_UNLCK;
}

ProcessEntry* Machine::enter() {
  const TableLock lock(*this);
  for (ProcessEntry& entry : shared_->processes) {
    if (lives(entry)) continue;
    if (!file_lock(fd_, F_OFD_SETLK, F_WRLCK, kLifeByte + index_of(entry))) continue;
    entry.pid = ::getpid();
    entry.pid_namespace = namespace_of("self");
    entry.restore_tid = 0;
    entry.state = kCudaProcessRunning;
    entry.contexts = 0;
    for (auto& bytes : entry.held_bytes) bytes = 0;
    for (auto& bytes : entry.saved_bytes) bytes = 0;
    entry.answered = entry.asked.load();
    for (auto& device : shared_->extents)
      for (Extent& extent : device) extent.used = extent.used && extent.process != index_of(entry);
    entry.used = 1;
    return &entry;
  }
  return nullptr;
}

void Machine::for_each(const std::function<void(ProcessEntry&)>& visit) {
  const TableLock lock(*this);
  for (ProcessEntry& entry : shared_->processes) {
    if (lives(entry)) visit(entry);
  }
}

ProcessEntry* Machine::find(pid_t pid) {
  const std::string process = std::to_string(pid);
  const std::uint64_t pid_namespace = namespace_of(process);
  const int inner = innermost_pid(process);
  ProcessEntry* found = nullptr;
  for_each([&](ProcessEntry& entry) {
    if (entry.pid == inner && entry.pid_namespace == pid_namespace) found = &entry;
  });
  return found;
}

pid_t Machine::visible_pid(const ProcessEntry& entry) {
  if (entry.pid_namespace == namespace_of("self")) return entry.pid;
  DIR* const proc = ::opendir("/proc");
  if (proc == nullptr) return 0;
  pid_t found = 0;
  while (const dirent* const item = ::readdir(proc)) {  // NOLINT(concurrency-mt-unsafe): a stream of its own
    const std::string process = item->d_name;
    if (process.find_first_not_of("0123456789") != std::string::npos) continue;
    if (innermost_pid(process) == entry.pid && namespace_of(process) == entry.pid_namespace) found = std::stoi(process);
  }
  ::closedir(proc);
  return found;
}

std::uint64_t Machine::sum_held(int device) {
  std::uint64_t bytes = 0;
  for (const ProcessEntry& entry : shared_->processes) {
    if (lives(entry)) bytes += entry.held_bytes.at(static_cast<std::size_t>(device));
  }
  return bytes;
}

bool Machine::reserve(ProcessEntry& entry, int device, std::uint64_t bytes, std::uint64_t limit_bytes) {
  const TableLock lock(*this);
  const std::uint64_t held = sum_held(device);
  if (held > limit_bytes || bytes > limit_bytes - held) return false;
  entry.held_bytes.at(static_cast<std::size_t>(device)) += bytes;
  return true;
}

std::byte* Machine::place(ProcessEntry& entry, int device, std::uint64_t bytes, std::uint64_t limit_bytes) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  bytes = (bytes + page - 1) / page * page;
  const TableLock lock(*this);
  std::map<std::uint64_t, std::uint64_t> taken;  // start -> end
  Extent* free = nullptr;
  for (Extent& extent : shared_->extents.at(static_cast<std::size_t>(device))) {
    extent.used = extent.used && lives(shared_->processes.at(static_cast<std::size_t>(extent.process)));
    if (extent.used)
      taken[extent.start] = extent.start + extent.bytes;
    else
      free = &extent;
  }
  std::uint64_t start = 0;
  for (const auto& [from, to] : taken) {
    if (from >= start + bytes) break;
    start = to;
  }
  if (free == nullptr || start + bytes > limit_bytes) return nullptr;
  const int fd = ::open((directory_ + "/device-" + std::to_string(device)).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(limit_bytes)) != 0) ::abort();
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(start));
  ::close(fd);
  if (memory == MAP_FAILED) ::abort();
  *free = {true, index_of(entry), start, bytes};
  placed_[static_cast<std::byte*>(memory)] = start;
  return static_cast<std::byte*>(memory);
}

void Machine::give_back(ProcessEntry& entry, int device, std::byte* memory, std::uint64_t bytes) {
  const TableLock lock(*this);
  const auto found = placed_.find(memory);
  if (found == placed_.end()) ::abort();
  for (Extent& extent : shared_->extents.at(static_cast<std::size_t>(device)))
    if (extent.used && extent.process == index_of(entry) && extent.start == found->second) extent.used = false;
  placed_.erase(found);
  ::munmap(memory, bytes);
}

std::uint64_t Machine::held_bytes(int device) {
  const TableLock lock(*this);
  return sum_held(device);
}

int Machine::ask(ProcessEntry& entry, const Command& command) {
  // An open file of its own: locks of one open file do not exclude each other's threads.
  const int fd = ::open(("/proc/self/fd/" + std::to_string(fd_)).c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0 || !file_lock(fd, F_OFD_SETLKW, F_WRLCK, kCommandByte + index_of(entry))) return kCudaErrorOperatingSystem;
  int result = kCudaErrorOperatingSystem;
  if (lives(entry)) {
    entry.command = command;
    const std::uint32_t number = ++entry.asked;
    futex_wake(entry.asked);
    std::uint32_t answered = entry.answered.load();
    while (answered != number && lives(entry)) {
      futex_wait(entry.answered, answered);
      answered = entry.answered.load();
    }
    if (answered == number) result = entry.result;
  }
  ::close(fd);
  return result;
}

}  // namespace thaw::emulator
