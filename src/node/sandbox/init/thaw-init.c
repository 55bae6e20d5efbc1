/* thaw-init: the first process of a sandbox, there before anybody knows which engine will run in it.
 *
 * The problem: making a sandbox takes runc 80 ms, more than starting a small engine. So sandboxes are made ahead, with this
 * program waiting inside. It reads one message from descriptor 0, becomes the engine that the message names, and is gone.
 *
 *     magic u32 | size of the rest u32 | argc u32 | envc u32 | argc + envc strings, each ended by NUL
 *
 * in the machine's byte order (both ends are on one machine). src/node/sandbox/init_message.cpp writes it.
 * End of file before a whole message means that the node is gone: exit, so that an empty sandbox never outlives it.
 * Static and without allocation: it needs nothing of the root it runs in. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { MAGIC = 0x57414854, MAX_PAYLOAD = 256 * 1024, MAX_STRINGS = 8192, CANNOT_RUN = 127 };

struct header {
  uint32_t magic, size, argc, envc;
};

static char payload[MAX_PAYLOAD];
static char *strings[MAX_STRINGS + 2];

static int fail(const char *what, const char *which) {
  dprintf(STDERR_FILENO, "thaw-init: %s %s: %s\n", what, which, strerror(errno));
  return CANNOT_RUN;
}

/* 1: all read, 0: the other end is gone. */
static int read_all(void *to, size_t size) {
  char *at = to;
  while (size > 0) {
    ssize_t got = read(STDIN_FILENO, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    at += got;
    size -= (size_t)got;
  }
  return 1;
}

/* Points strings[] into payload[]: argc pointers, NULL, envc pointers, NULL. Returns 0 when the message is malformed. */
static int split(const struct header *h) {
  if (h->argc == 0 || h->argc > MAX_STRINGS || h->envc > MAX_STRINGS - h->argc || payload[h->size - 1] != '\0') return 0;
  char *at = payload, *end = payload + h->size;
  uint32_t slot = 0;
  for (uint32_t i = 0; i < h->argc + h->envc; ++i) {
    if (at == end) return 0;
    if (i == h->argc) strings[slot++] = NULL;
    strings[slot++] = at;
    at += strlen(at) + 1;
  }
  if (h->envc == 0) strings[slot++] = NULL;
  strings[slot] = NULL;
  return at == end;
}

int main(void) {
  struct header h;
  if (!read_all(&h, sizeof h)) return 0;
  if (h.magic != MAGIC || h.size == 0 || h.size > MAX_PAYLOAD) {
    errno = EPROTO;
    return fail("cannot read", "the message's header");
  }
  if (!read_all(payload, h.size)) return 0;
  if (!split(&h)) {
    errno = EPROTO;
    return fail("cannot read", "the message");
  }

  /* From here on the node is this process's parent (runc has ended), so its death is ours too, also by SIGKILL. Asking whether it still is
   * there closes the gap between the message and the prctl. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail("cannot", "tie the engine's life to the node's");
  struct pollfd peer = {.fd = STDIN_FILENO, .events = 0, .revents = 0};
  if (poll(&peer, 1, 0) != 0) return 0;

  int null = open("/dev/null", O_RDONLY);
  if (null < 0) return fail("cannot open", "/dev/null");
  if (dup2(null, STDIN_FILENO) < 0) return fail("cannot replace", "descriptor 0");
  if (null != STDIN_FILENO) close(null);
  execve(strings[0], strings, strings + h.argc + 1);
  return fail("cannot run", strings[0]);
}
