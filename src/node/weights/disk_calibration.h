#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/weights/direct_reader.h"
#include "node/weights/disk.h"

/// The problem: the chunk size and the number of reads under way at which a disk is fastest differ between disks by a
/// factor of ten, and nothing but trying tells. So it is tried once, by `thaw doctor --disks`, and remembered.
namespace thaw::node {

/// How a disk is read best, as measured.
struct DiskCalibration {
  Disk disk;
  ReadSettings settings;
  double bytes_per_s = 0;
  std::string buffered_why;  ///< why it is read through the page cache; empty: it is read directly
  std::string threads_why;   ///< why it is read by threads; empty: by io_uring
  std::int64_t unix_s = 0;   ///< when
};

struct CalibrationLimits {
  base::Duration search = base::Millis(1500);  ///< for trying settings
  base::Duration write = base::Millis(1000);   ///< for writing a file to read, where none is there
  std::uint64_t file_bytes = 256ULL << 20;  ///< of that file, if there is time; and the least size of one that is there
  bool with_ring = true;                    ///< false: as where io_uring is refused
};

/// Measures the disk that `path` lies on: a big file, which is read, or a directory, in which a file without a name is
/// written, read, and gone with this process at the latest. Blocking, 2 to 3 s. A disk that refuses direct I/O keeps
/// the default settings. Errors: not_found, denied, io, exhausted (no room for the file).
base::Result<DiskCalibration> calibrate_disk(const std::string& path, const CalibrationLimits& limits = {});

/// Where calibrations are kept: <data_dir>/disks.json.
std::string calibrations_path(const std::string& data_dir);

/// All that are stored; none when there is no such file. Errors: io, denied, invalid (damaged, or of another version).
base::Result<std::vector<DiskCalibration>> stored_calibrations(const std::string& data_dir);

/// Remembers a calibration in place of an earlier one of the same disk. A file that cannot be understood is replaced.
/// Durable on return; what is read meanwhile is the old or the new. Errors: io, denied.
base::Status store_calibration(const std::string& data_dir, const DiskCalibration& calibration);

/// The calibration of what `path` lies on, when there is one.
std::optional<DiskCalibration> stored_calibration(const std::string& data_dir, const std::string& path);

/// How to read the file at `path`: as measured, or the defaults where nothing was, or nothing that can be read.
ReadSettings stored_read_settings(const std::string& data_dir, const std::string& path);

}  // namespace thaw::node
