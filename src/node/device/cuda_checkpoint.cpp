#include "node/device/cuda_checkpoint.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <optional>

#include <fmt/format.h>

namespace thaw::node {
namespace {

using namespace cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
using base::Error;
using base::ErrorKind;

constexpr int kFirstWithMoves = 13'000;  // CUDA 13.0, driver 580
constexpr base::Millis kLongestLock{60'000};

/// "GPU-xxxxxxxx-xxxx-…" as the driver has it.
std::optional<CUuuid> parse_uuid(const std::string& text) {
  std::string digits;
  for (const char c : text.substr(std::min<std::size_t>(4, text.size())))
    if (std::isxdigit(static_cast<unsigned char>(c)) != 0) digits += c;
  if (!text.starts_with("GPU-") || digits.size() != 2 * sizeof(CUuuid::bytes)) return std::nullopt;
  CUuuid uuid{};
  for (std::size_t i = 0; i < sizeof uuid.bytes; ++i)
    uuid.bytes[i] = static_cast<char>(std::stoi(digits.substr(2 * i, 2), nullptr, 16));
  return uuid;
}

/// Calls a function about a process, with kinds of errors that its callers tell apart.
template <typename Function, typename... Args>
base::Status call(const CudaDriver& driver, const char* name, Args... args) {
  THAW_ASSIGN_OR_RETURN(const auto function, driver.find<Function>(name));
  const CUresult code = function(args...);
  base::Status status = driver.check(name, code);
  if (code == kCudaErrorNotReady) return Error{ErrorKind::timeout, status.error().message};
  if (code == kCudaErrorIllegalState) return Error{ErrorKind::conflict, status.error().message};
  if (code == kCudaErrorInvalidValue) return Error{ErrorKind::invalid, status.error().message};
  return status;
}

}  // namespace

const char* to_string(CudaProcessState state) {
  switch (state) {
    case CudaProcessState::running:
      return "running";
    case CudaProcessState::locked:
      return "locked";
    case CudaProcessState::checkpointed:
      return "checkpointed";
    case CudaProcessState::failed:
      return "failed";
  }
  return "?";
}

base::Status CudaCheckpoint::offered(const std::string& library) {
  THAW_ASSIGN_OR_RETURN(const auto driver, CudaDriver::open(library));
  for (const char* name : {"cuCheckpointProcessGetState", "cuCheckpointProcessLock", "cuCheckpointProcessCheckpoint",
                           "cuCheckpointProcessRestore", "cuCheckpointProcessUnlock"})
    if (const auto found = driver.find<void()>(name); !found.ok()) return found.error();
  return {};
}

base::Result<std::unique_ptr<CudaCheckpoint>> CudaCheckpoint::open(const std::string& library) {
  THAW_RETURN_IF_ERROR(offered(library));
  THAW_ASSIGN_OR_RETURN(auto driver, CudaDriver::open(library));
  std::unique_ptr<CudaCheckpoint> opened(new CudaCheckpoint(std::move(driver)));
  opened->initialiser_ = std::thread([raw = opened.get()] {
    const auto status = raw->driver_.call<cuInit_t>("cuInit", 0U);
    const std::lock_guard lock(raw->mutex_);
    raw->init_ = status.ok() ? Init::done : Init::failed;
    if (!status.ok()) raw->init_error_ = status.error().message;
  });
  return opened;
}

CudaCheckpoint::~CudaCheckpoint() {
  initialiser_.join();
}

base::Status CudaCheckpoint::ready() const {
  const std::lock_guard lock(mutex_);
  switch (init_) {
    case Init::done:
      return {};
    case Init::under_way:
      return Error{ErrorKind::unavailable, "NVIDIA's driver is being initialised"};
    case Init::failed:
      break;
  }
  return Error{ErrorKind::unavailable, init_error_};
}

base::Result<CudaProcessState> CudaCheckpoint::state(pid_t pid) const {
  int state = 0;
  THAW_RETURN_IF_ERROR((call<cuCheckpointProcessGetState_t>(driver_, "cuCheckpointProcessGetState", pid, &state)));
  switch (state) {
    case kCudaProcessRunning:
      return CudaProcessState::running;
    case kCudaProcessLocked:
      return CudaProcessState::locked;
    case kCudaProcessCheckpointed:
      return CudaProcessState::checkpointed;
    case kCudaProcessFailed:
      return CudaProcessState::failed;
    default:
      return Error{ErrorKind::internal,
                   fmt::format("the driver says that process {} is in state {}, which thaw does not know", pid, state)};
  }
}

base::Status CudaCheckpoint::lock(pid_t pid, base::Duration timeout) const {
  CUcheckpointLockArgs args{};
  // 0 would mean for ever.
  args.timeoutMs = static_cast<unsigned int>(
      std::clamp(std::chrono::floor<base::Millis>(timeout), base::Millis(1), kLongestLock).count());
  return call<cuCheckpointProcessLock_t>(driver_, "cuCheckpointProcessLock", pid, &args);
}

base::Status CudaCheckpoint::checkpoint(pid_t pid) const {
  CUcheckpointCheckpointArgs args{};
  return call<cuCheckpointProcessCheckpoint_t>(driver_, "cuCheckpointProcessCheckpoint", pid, &args);
}

base::Status CudaCheckpoint::restore(pid_t pid, const std::vector<CudaMove>& moves) const {
  std::vector<CUcheckpointGpuPair> pairs;
  for (const CudaMove& move : moves) {
    const auto from = parse_uuid(move.from_uuid);
    const auto to = parse_uuid(move.to_uuid);
    if (!from || !to)
      return Error{ErrorKind::invalid, fmt::format("\"{}\" or \"{}\" is no GPU's UUID", move.from_uuid, move.to_uuid)};
    pairs.push_back({*from, *to});
  }
  CUcheckpointRestoreArgs args{};
  args.gpuPairs = pairs.empty() ? nullptr : pairs.data();
  args.gpuPairsCount = static_cast<unsigned int>(pairs.size());
  return call<cuCheckpointProcessRestore_t>(driver_, "cuCheckpointProcessRestore", pid, &args);
}

base::Status CudaCheckpoint::unlock(pid_t pid) const {
  CUcheckpointUnlockArgs args{};
  return call<cuCheckpointProcessUnlock_t>(driver_, "cuCheckpointProcessUnlock", pid, &args);
}

bool CudaCheckpoint::can_move() const {
  int version = 0;
  return driver_.call<cuDriverGetVersion_t>("cuDriverGetVersion", &version).ok() && version >= kFirstWithMoves;
}

}  // namespace thaw::node
