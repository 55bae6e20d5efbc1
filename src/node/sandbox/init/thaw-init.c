/* thaw-init: the first process of a sandbox, there before anybody knows which engine will run in it.
 *
 * The problem: making a sandbox takes runc 80 ms, more than starting a small engine. So sandboxes are made ahead, with this
 * program waiting inside. It reads one message from descriptor 0, starts the engine that the message names, and stays as its init:
 *
 *     magic u32 | size of the rest u32 | argc u32 | envc u32 | argc + envc strings, each ended by NUL
 *
 * Why the engine is not process 1 itself: the kernel drops signals to process 1, so an abort() there looks like a segmentation fault and a SIGTERM
 * like nothing; and nobody would reap an engine's orphans. When the engine ends, this says how and ends too, and the kernel with it all else:
 *
 *     1 if ended by a signal, else 0, u32 | exit status or signal u32
 *
 * With an argument it is the first process of a pid namespace on the host's side of a sandbox, started by the node itself (for runsc, which is
 * then the "engine"): it mounts the /proc that belongs to that namespace, and covers /proc/sys with the directory that the argument names, if
 * it is not empty. All else is the same, and when it ends the kernel kills and reaps whatever runsc had started. With a second argument the
 * engine's descriptor 0 is this program's 3, instead of /dev/null.
 *
 * With "--become DIRECTORY" it is the first process inside a gVisor sandbox that was made ahead, and its descriptor 0 a pipe: it says that it is
 * there by one byte (0) on its output, reads the message, goes to the directory if there is one, and becomes the engine: a kernel of its own drops
 * no signals, and has no orphans to be reaped.
 *
 * Its sandbox may be made an image of, by criu (src/node/sandbox/runc_images.cpp), and what comes up from that has another parent and nobody at the
 * other end of descriptor 0. So it can be told from outside its pid namespace, by signals, which an engine inside cannot imitate (si_pid is 0):
 *
 *     SIGUSR2  let go: no more tie to the node's life, and /dev/null as descriptor 0 (the node sees its end close). Nobody holds the sandbox now
 *     SIGUSR1  held: the node is the parent again, and its death is ours
 *
 * One that nobody holds ends after a minute of its own time. One that has been let go tells of its engine's end by its own exit status, as shells do:
 * the engine's, or 128 + signal.
 *
 * All in the machine's byte order (both ends are on one machine). src/node/sandbox/init_message.cpp has the other end.
 * End of file before a whole message means that the node is gone: exit, so that an empty sandbox never outlives it.
 * Static and without allocation: it needs nothing of the root it runs in. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAGIC = 0x57414854, MAX_PAYLOAD = 256 * 1024, MAX_STRINGS = 8192, CANNOT_RUN = 127, FEED = 3 };
enum { SHELL_SIGNAL = 128, TICK_MS = 100, MAX_UNHELD_TICKS = 600 };

struct header {
  uint32_t magic, size, argc, envc;
};

static char payload[MAX_PAYLOAD];
static char *strings[MAX_STRINGS + 2];
static int let_go, unheld_ticks; /* unheld_ticks: 0 while the node holds the sandbox */

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

/* A name without a slash is looked for in the engine's PATH: a container image may have its programs anywhere. Returns only when it cannot be run. */
static void run_engine(char **env) {
  static char path[4096];
  const char *at = NULL;
  if (strchr(strings[0], '/') != NULL) {
    execve(strings[0], strings, env);
    return;
  }
  for (char **variable = env; *variable != NULL; ++variable)
    if (strncmp(*variable, "PATH=", 5) == 0) at = *variable + 5;
  errno = ENOENT;
  while (at != NULL && *at != '\0') {
    size_t length = strcspn(at, ":");
    int whole = snprintf(path, sizeof path, "%.*s/%s", (int)length, at, strings[0]);
    if (length > 0 && whole > 0 && (size_t)whole < sizeof path) execve(path, strings, env);
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) return;
    at += length + (at[length] == ':');
  }
}

/* Returns only when the engine cannot be run. */
static int become_engine(const struct header *h, int stdin_fd) {
  if (stdin_fd < 0) return fail("cannot open", "/dev/null");
  if (dup2(stdin_fd, STDIN_FILENO) < 0) return fail("cannot replace", "descriptor 0");
  if (stdin_fd != STDIN_FILENO) close(stdin_fd);
  run_engine(strings + h->argc + 1);
  return fail("cannot run", strings[0]);
}

static int open_null(void) { return open("/dev/null", O_RDONLY); }

/* In the child. Returns only when the engine cannot be run. */
static int become_child(const struct header *h, const sigset_t *mask, int stdin_fd) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail("cannot", "tie the engine's life to its init's");
  sigprocmask(SIG_SETMASK, mask, NULL);
  return become_engine(h, stdin_fd);
}

/* Reaps whatever ended; reports and exits when it was the engine. */
static void reap(pid_t engine) {
  int status;
  pid_t ended;
  while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
    if (ended != engine) continue;
    if (let_go) _exit(WIFSIGNALED(status) ? SHELL_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status));
    uint32_t how[2] = {WIFSIGNALED(status) != 0, (uint32_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status))};
    ssize_t sent = send(STDIN_FILENO, how, sizeof how, MSG_NOSIGNAL | MSG_DONTWAIT);
    _exit(sent == (ssize_t)sizeof how ? 0 : CANNOT_RUN);
  }
}

/* What runs in a sandbox goes before the server when the host runs out of memory; runsc inherits it (bundle.cpp says so for runc). */
static int go_first(void) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY);
  if (fd < 0 || write(fd, "500", 3) != 3) return fail("cannot write", "/proc/self/oom_score_adj");
  close(fd);
  return 0;
}

static int mount_proc(const char *sys_cover) {
  if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0) return fail("cannot mount", "/proc");
  if (*sys_cover != '\0' && mount(sys_cover, "/proc/sys", NULL, MS_BIND | MS_REC, NULL) != 0) return fail("cannot cover /proc/sys with", sys_cover);
  return 0;
}

/* -1: go on; else exit with it. */
static int read_message(struct header *h) {
  if (!read_all(h, sizeof *h)) return 0;
  if (h->magic != MAGIC || h->size == 0 || h->size > MAX_PAYLOAD) {
    errno = EPROTO;
    return fail("cannot read", "the message's header");
  }
  if (!read_all(payload, h->size)) return 0;
  if (split(h)) return -1;
  errno = EPROTO;
  return fail("cannot read", "the message");
}

/* A signal from outside the pid namespace; who is inside cannot send it with this si_code and no pid. */
static void obey(const siginfo_t *info) {
  if (info->si_code != SI_USER || info->si_pid != 0) return;
  if (info->si_signo == SIGUSR1 && let_go) {
    unheld_ticks = 0;
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return;
  }
  int null = open_null();
  if (info->si_signo != SIGUSR2 || null < 0) return;
  prctl(PR_SET_PDEATHSIG, 0);
  /* The memory of one that criu made belongs to the host's root, and criu's part inside may not look at it while it is closed. */
  if (let_go) prctl(PR_SET_DUMPABLE, 1);
  let_go = 1;
  unheld_ticks = 1;
  dup2(null, STDIN_FILENO); /* the last thing: that is what the node waits for */
  if (null != STDIN_FILENO) close(null);
}

/* The next signal, or 0 when there may be none for ever. */
static int next_signal(const sigset_t *watched, siginfo_t *info) {
  const struct timespec tick = {.tv_sec = 0, .tv_nsec = TICK_MS * 1000000L};
  if (unheld_ticks == 0) return sigwaitinfo(watched, info);
  if (unheld_ticks++ >= MAX_UNHELD_TICKS) _exit(CANNOT_RUN); /* and the kernel ends the engine */
  return sigtimedwait(watched, info, &tick);
}

static int become(const char *directory) {
  struct header h;
  if (write(STDOUT_FILENO, "", 1) != 1) return fail("cannot", "say that it is there");
  int ending = read_message(&h);
  if (ending >= 0) return ending;
  if (chdir(directory) != 0 && errno != ENOENT) return fail("cannot go to", directory);
  return become_engine(&h, open_null());
}

int main(int argc, char **argv) {
  struct header h;
  /* The engine is the same user: without this it could write into this program's memory (/proc/1/mem) and speak for it. */
  if (prctl(PR_SET_DUMPABLE, 0) != 0) return fail("cannot", "close its memory to the engine");
  if (argc > 2 && strcmp(argv[1], "--become") == 0) return become(argv[2]);
  if (argc > 1 && (mount_proc(argv[1]) != 0 || go_first() != 0)) return CANNOT_RUN;
  int ending = read_message(&h);
  if (ending >= 0) return ending;

  /* From here on the node is this process's parent (runc has ended), so its death is ours too, also by SIGKILL. Asking whether it still is
   * there closes the gap between the message and the prctl. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return fail("cannot", "tie the sandbox's life to the node's");
  struct pollfd peer = {.fd = STDIN_FILENO, .events = 0, .revents = 0};
  if (poll(&peer, 1, 0) != 0) return 0;

  /* Blocked, so that even process 1 gets them: handed on to the engine below. */
  sigset_t watched, before;
  sigemptyset(&watched);
  sigaddset(&watched, SIGCHLD);
  sigaddset(&watched, SIGTERM);
  sigaddset(&watched, SIGINT);
  sigaddset(&watched, SIGUSR1);
  sigaddset(&watched, SIGUSR2);
  sigprocmask(SIG_BLOCK, &watched, &before);
  pid_t engine = fork();
  if (engine < 0) return fail("cannot start", strings[0]);
  if (engine == 0) return become_child(&h, &before, argc > 2 ? FEED : open_null());
  if (argc > 2) close(FEED); /* its end is then the engine's alone */
  for (;;) {
    siginfo_t info;
    int number = next_signal(&watched, &info);
    if (number == SIGCHLD) reap(engine);
    else if (number == SIGUSR1 || number == SIGUSR2) obey(&info);
    else if (number > 0) kill(engine, number);
  }
}
