#pragma once

#include <cstddef>

/// The JSON form that writer and reader agree on; private to src/wire.
namespace thaw::wire {

// Every message is one object whose "type" says which.
constexpr const char* kHello = "hello";
constexpr const char* kStart = "start_instance";
constexpr const char* kStop = "stop_instance";
constexpr const char* kFreeze = "freeze_instance";
constexpr const char* kWake = "wake_instance";
constexpr const char* kSnapshot = "take_snapshot";
constexpr const char* kDrop = "drop_image";
constexpr const char* kForget = "forget_model";
constexpr const char* kLoadAdapter = "load_adapter";
constexpr const char* kUnloadAdapter = "unload_adapter";
constexpr const char* kAdapterLoaded = "adapter_loaded";
constexpr const char* kReady = "instance_ready";
constexpr const char* kWeights = "instance_weights";
constexpr const char* kDown = "instance_down";
constexpr const char* kGone = "instance_gone";
constexpr const char* kStandby = "instance_standby";
constexpr const char* kFreezeFailed = "freeze_failed";
constexpr const char* kSnapshotTaken = "snapshot_taken";
constexpr const char* kSnapshotFailed = "snapshot_failed";
constexpr const char* kImageGone = "image_gone";
constexpr const char* kHash = "hash_file";
constexpr const char* kFilesSeen = "files_seen";
constexpr const char* kFilesChanged = "files_changed";
constexpr const char* kFileHashed = "file_hashed";
constexpr const char* kLook = "look_at_weights";
constexpr const char* kEvict = "evict_weights";
constexpr const char* kWeightsState = "weights_state";
constexpr const char* kEvicted = "weights_evicted";

// Bounds of what is read; a writer keeps to them where the contents are not its own.
constexpr std::size_t kMaxDevices = 1'024;
constexpr std::size_t kMaxDrivers = 64;
constexpr std::size_t kMaxImages = 4'096;
constexpr std::size_t kMaxImageId = 128;
constexpr std::size_t kMaxPhases = 64;
constexpr std::size_t kMaxFiles = 2'048;
constexpr std::size_t kSha256Digits = 64;
constexpr std::size_t kMaxLogTail = 2'048;

}  // namespace thaw::wire
