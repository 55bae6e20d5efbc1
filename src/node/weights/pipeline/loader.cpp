#include "node/weights/pipeline/loader.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <numeric>
#include <utility>

#include "node/weights/direct_file.h"

namespace thaw::node::pipeline {
namespace {

struct FileFacts {
  std::uint64_t bytes = 0;
  dev_t disk = 0;
};

base::Result<FileFacts> facts_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return file_error("cannot find", path, errno);
  if (!S_ISREG(status.st_mode))
    return base::Error{base::ErrorKind::invalid, "cannot read " + path + ": it is no regular file"};
  return FileFacts{static_cast<std::uint64_t>(status.st_size), status.st_dev};
}

/// The files in the order in which they are read: those of several disks alternate, so that all disks are busy, and
/// those of one follow each other as they came.
std::vector<std::uint32_t> reading_order(const std::vector<FileFacts>& files) {
  std::map<dev_t, std::uint32_t> seen;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> keys;  // how many of the same disk come before; which it is
  for (std::uint32_t i = 0; i < files.size(); ++i) keys.emplace_back(seen[files[i].disk]++, i);
  std::sort(keys.begin(), keys.end());
  std::vector<std::uint32_t> order;
  for (const auto& key : keys) order.push_back(key.second);
  return order;
}

std::size_t count_disks(const std::vector<FileFacts>& files) {
  std::map<dev_t, int> disks;
  for (const FileFacts& file : files) disks[file.disk] = 1;
  return std::max<std::size_t>(disks.size(), 1);
}

}  // namespace

Loader::Loader(LoaderOptions options) : thread_([this, options = std::move(options)] { run(options); }) {}

base::Result<std::unique_ptr<Loader>> Loader::open(LoaderOptions options) {
  if (!options.ring.in_range() || options.ring.depth < 2)
    return base::Error{base::ErrorKind::invalid,
                       "a ring has 2 to 128 chunks, each a multiple of 4096 bytes up to 64 MiB"};
  return std::unique_ptr<Loader>(new Loader(std::move(options)));
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    if (load_) load_->cancel();
  }
  changed_.notify_all();
  thread_.join();
}

base::Result<std::shared_ptr<Load>> Loader::start(std::vector<std::string> files, std::vector<TensorPart> tensors,
                                                  std::uint64_t window_bytes) {
  std::vector<FileFacts> facts;
  for (const std::string& file : files) {
    THAW_ASSIGN_OR_RETURN(const FileFacts fact, facts_of(file));
    facts.push_back(fact);
  }
  const std::vector<std::uint32_t> order = reading_order(facts);
  std::vector<std::string> ordered_files;
  std::vector<std::uint64_t> bytes;
  std::vector<std::uint32_t> place(files.size());
  for (const std::uint32_t file : order) {
    place[file] = static_cast<std::uint32_t>(ordered_files.size());
    ordered_files.push_back(std::move(files[file]));
    bytes.push_back(facts[file].bytes);
  }
  for (TensorPart& tensor : tensors) {
    if (tensor.file < place.size()) tensor.file = place[tensor.file];
  }
  THAW_ASSIGN_OR_RETURN(Plan plan, Plan::make(std::move(ordered_files), bytes, std::move(tensors)));
  auto load = std::make_shared<Load>(std::move(plan), LoadOptions{window_bytes, count_disks(facts)});

  const std::lock_guard lock(mutex_);
  if (load_)
    return base::Error{base::ErrorKind::conflict,
                       "another load is under way; wait for its end, or open another loader"};
  load_ = load;
  changed_.notify_all();
  return load;
}

void Loader::run(const LoaderOptions& options) {
  Worker worker(options);  // here, so that this thread's context is the one that is changed, also at the end
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || load_; });
    if (!load_) return;
    lock.unlock();
    const base::Status status = worker.run(*load_);
    lock.lock();
    const std::shared_ptr<Load> load = std::exchange(load_, nullptr);
    load->end(status);  // whoever sees it may start the next
  }
}

}  // namespace thaw::node::pipeline
