#pragma once

#include <elf.h>

#include <array>
#include <cstddef>
#include <string>

namespace thaw::node::testing {

/// The smallest file of this machine's that is a shared library to who reads its headers: one segment in memory, a
/// dynamic section, a name.
inline std::string shared_library(const std::string& soname) {
  struct Image {
    Elf64_Ehdr header{};
    std::array<Elf64_Phdr, 2> segments{};
    std::array<Elf64_Dyn, 4> dynamic{};
  } image;
  constexpr Elf64_Addr kAddress = 0x10000;
  const std::string strings = std::string(1, '\0') + soname + std::string(1, '\0');
  image.header.e_ident[EI_MAG0] = ELFMAG0;
  image.header.e_ident[EI_MAG1] = ELFMAG1;
  image.header.e_ident[EI_MAG2] = ELFMAG2;
  image.header.e_ident[EI_MAG3] = ELFMAG3;
  image.header.e_ident[EI_CLASS] = ELFCLASS64;
  image.header.e_ident[EI_DATA] = ELFDATA2LSB;
  image.header.e_type = ET_DYN;
#if defined(__aarch64__)
  image.header.e_machine = EM_AARCH64;
#else
  image.header.e_machine = EM_X86_64;
#endif
  image.header.e_phoff = offsetof(Image, segments);
  image.header.e_phentsize = sizeof(Elf64_Phdr);
  image.header.e_phnum = 2;
  image.segments[0].p_type = PT_LOAD;
  image.segments[0].p_vaddr = kAddress;
  image.segments[0].p_filesz = image.segments[0].p_memsz = sizeof image + strings.size();
  image.segments[1].p_type = PT_DYNAMIC;
  image.segments[1].p_offset = offsetof(Image, dynamic);
  image.segments[1].p_filesz = sizeof image.dynamic;
  image.dynamic[0].d_tag = DT_STRTAB;
  image.dynamic[0].d_un.d_ptr = kAddress + sizeof image;
  image.dynamic[1].d_tag = DT_STRSZ;
  image.dynamic[1].d_un.d_val = strings.size();
  image.dynamic[2].d_tag = DT_SONAME;
  image.dynamic[2].d_un.d_val = 1;
  return std::string(reinterpret_cast<const char*>(&image), sizeof image) + strings;
}

}  // namespace thaw::node::testing
