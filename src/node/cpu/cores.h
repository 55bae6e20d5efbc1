#pragma once

#include <string>
#include <vector>

namespace thaw::node {

/// One processor of each core that this process may run on, ascending: as many as llama.cpp starts threads where nobody
/// says otherwise. Empty where the cores are not all alike (some of Intel's), or the kernel does not tell. `cpus_dir`
/// is a parameter so that a test can show another host.
std::vector<unsigned> processor_of_each_core(const std::string& cpus_dir = "/sys/devices/system/cpu");

/// llama.cpp's --cpu-mask: hexadecimal, the lowest processor the last bit. "0" for none.
std::string cpu_mask(const std::vector<unsigned>& processors);

}  // namespace thaw::node
