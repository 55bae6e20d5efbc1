// libthaw_lazy_map.so: preloaded into engines (LD_PRELOAD), so that they begin to compute while their weights are still coming in.
//
// The problem: llama.cpp maps a model with MAP_POPULATE: mmap() returns only when every page of the file is in memory and in the page table. From a cold
// page cache that is the whole time of the disk, and what comes after (the KV cache, repacked weights, the first layers) waits for the last tensor. The
// node reads the file into the page cache anyway, in the file's order; without the flag an engine waits for a page only when it touches it.
//
// So here: mmap() without MAP_POPULATE for read-only shared mappings of files, and no MADV_WILLNEED of mappings, which would have the engine's own
// thread order the whole file from the disk, in one stream, in front of everybody else's. And huge pages are asked for: where the engine is ahead of the
// node, its page fault then reads 2 MiB, and leaves no small pages in the way. All are hints: what is read through the mapping is the same.
// Everything else goes to the kernel as it is.
//
// No libc (it is loaded into programs of any), no constructor, no state. Errors: errno as from libc's mmap.

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>

#ifndef __x86_64__
#error "system calls are made here in x86-64's way"
#endif

static long call6(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return result;
}

static void *map(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
  const int shared = (flags & MAP_TYPE) == MAP_SHARED || (flags & MAP_TYPE) == MAP_SHARED_VALIDATE;
  const int lazy = fd >= 0 && shared && protection == PROT_READ && !(flags & MAP_ANONYMOUS) && (flags & MAP_POPULATE);
  if (lazy) flags &= ~MAP_POPULATE;
  const long result = call6(SYS_mmap, (long)address, (long)bytes, protection, flags, fd, offset);
  if (result < 0 && result > -4096) {
    errno = (int)-result;
    return MAP_FAILED;
  }
  if (lazy) call6(SYS_madvise, result, (long)bytes, MADV_HUGEPAGE, 0, 0, 0);
  return (void *)result;
}

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) { return map(address, bytes, protection, flags, fd, offset); }

void *mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) { return map(address, bytes, protection, flags, fd, offset); }

int posix_madvise(void *address, size_t bytes, int advice) {
  // MADV_DONTNEED would drop what was written, which POSIX_MADV_DONTNEED must not: libc does nothing for it either.
  if (advice == POSIX_MADV_WILLNEED || advice == POSIX_MADV_DONTNEED) return 0;
  const long result = call6(SYS_madvise, (long)address, (long)bytes, advice, 0, 0, 0);
  return result < 0 ? (int)-result : 0;
}
