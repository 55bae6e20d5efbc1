#ifndef THAW_WEIGHTS_H
#define THAW_WEIGHTS_H

/* libthaw_weights: model weights from disks to where an engine computes, at the speed of the hardware.
 *
 * The bytes go disk -> small pinned ring -> device: direct reads (io_uring, O_DIRECT) keep the disk busy, asynchronous
 * copies on a stream of its own keep each device's bus busy, and both at the same time. It runs inside the engine's
 * process, fills memory that the caller owns, and holds nothing of a device but a stream and a few events.
 *
 *     thaw_weights_loader *loader;
 *     thaw_weights_load *load;
 *     thaw_weights_event event;
 *     if (thaw_weights_open(NULL, &loader) != THAW_WEIGHTS_OK) die(thaw_weights_error());
 *     if (thaw_weights_start(loader, files, 1, tensors, count, NULL, &load) != THAW_WEIGHTS_OK)
 * die(thaw_weights_error()); while ((status = thaw_weights_next(load, -1, &event)) == THAW_WEIGHTS_OK && event.kind !=
 * THAW_WEIGHTS_END) use(event.tensor); if (status != THAW_WEIGHTS_OK) die(thaw_weights_load_error(load));
 *     thaw_weights_free(load);
 *     thaw_weights_close(loader);
 *
 * Strings are UTF-8 and copied. A loader, and each load, may be used by several threads. docs/weights-pipeline.md tells
 * the rest.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define THAW_WEIGHTS_API __attribute__((visibility("default")))

/* Of this header; thaw_weights_version() tells the library's. Equal majors (the hundreds) fit. */
#define THAW_WEIGHTS_VERSION 100
THAW_WEIGHTS_API int thaw_weights_version(void);

/* What a call returns. */
enum {
  THAW_WEIGHTS_OK = 0,
  THAW_WEIGHTS_TIMEOUT = 1, /* nothing has happened yet; ask again */
  THAW_WEIGHTS_CANCELLED = 2,
  THAW_WEIGHTS_INVALID = 3,   /* arguments, or a file that is shorter than its tensors */
  THAW_WEIGHTS_NOT_FOUND = 4, /* no such file, or no such device */
  THAW_WEIGHTS_DENIED = 5,    /* the file may not be read */
  THAW_WEIGHTS_IO = 6,        /* the disk, or the operating system */
  THAW_WEIGHTS_MEMORY = 7,    /* the host or a device has none left */
  THAW_WEIGHTS_DEVICE = 8,    /* the driver is absent, or refused */
  THAW_WEIGHTS_BUSY = 9,      /* the loader has another load under way */
  THAW_WEIGHTS_INTERNAL = 10
};

typedef struct thaw_weights_loader thaw_weights_loader; /* the ring, streams and a thread; make one, and keep it */
typedef struct thaw_weights_load thaw_weights_load;     /* one list of tensors on their way */

/* Zero in any field means its default; a NULL instead of it means all defaults. */
typedef struct {
  uint64_t chunk_bytes;     /* of one read: a multiple of 4096 up to 64 MiB; default 2 MiB */
  uint32_t chunks;          /* that are read, or copied to a device, at the same time: 2 to 128; default 16 */
  const char* cuda_library; /* as dlopen takes it; default libcuda.so.1 */
} thaw_weights_options;

/* Where the weights of one tensor, or a shard of one, lie and go. `rows` pieces of `row_bytes` each: one for what lies
 * in one piece, more for a shard across a matrix' columns. */
typedef struct {
  uint32_t file;   /* which of the files */
  int32_t device;  /* CUDA ordinal, or THAW_WEIGHTS_HOST */
  uint64_t offset; /* of its first byte in the file; need not be aligned */
  uint64_t row_bytes;
  uint64_t rows;
  uint64_t file_stride; /* from one row's beginning to the next one's in the file; at least row_bytes */
  uint64_t destination; /* address of device or host memory; 0: not known yet, see THAW_WEIGHTS_NEEDS_DESTINATION */
  uint64_t destination_stride; /* the same there; 0: rows follow each other without gaps */
} thaw_weights_tensor;

#define THAW_WEIGHTS_HOST (-1)

typedef struct {
  uint64_t window_bytes; /* how far ahead of the reading destinations are asked for; default 256 MiB */
} thaw_weights_load_options;

/* What thaw_weights_next() hands out. */
enum {
  THAW_WEIGHTS_END = 0,              /* all tensors are where they belong; nothing follows */
  THAW_WEIGHTS_DONE = 1,             /* this tensor is: kernels on any stream may use it */
  THAW_WEIGHTS_NEEDS_DESTINATION = 2 /* this tensor's bytes come soon: thaw_weights_provide() memory for it */
};
typedef struct {
  int32_t kind;
  uint32_t tensor; /* its place in the list */
} thaw_weights_event;

typedef struct {
  uint64_t tensors, tensors_done;
  uint64_t bytes, bytes_done; /* of the tensors; bytes that several of them take count for each */
  uint64_t read_bytes;        /* of the files so far */
  uint64_t buffered_bytes;    /* of them, through the page cache, where direct reads are refused */
  uint64_t pageable_bytes;    /* copied to devices out of memory that could not be pinned */
  double seconds;             /* since the start, or until the end */
} thaw_weights_progress;

/* Makes a loader. Cheap: memory is taken and pinned, and the driver is loaded, when a load first needs it. */
THAW_WEIGHTS_API int thaw_weights_open(const thaw_weights_options* options, thaw_weights_loader** loader);
/* Cancels what is under way, waits for it, and gives everything back. Free its loads first. NULL is fine. */
THAW_WEIGHTS_API void thaw_weights_close(thaw_weights_loader* loader);

/* Begins to load. The destinations must stay valid until the load has ended or was freed. One load at a time. */
THAW_WEIGHTS_API int thaw_weights_start(thaw_weights_loader* loader, const char* const* files, size_t file_count,
                                        const thaw_weights_tensor* tensors, size_t tensor_count,
                                        const thaw_weights_load_options* options, thaw_weights_load** load);
/* Waits for the next event: `timeout_ms` at most, for ever below 0. THAW_WEIGHTS_TIMEOUT, or why the load has failed;
 * tensors that were done before are handed out first. */
THAW_WEIGHTS_API int thaw_weights_next(thaw_weights_load* load, int timeout_ms, thaw_weights_event* event);
/* Tells where a tensor goes that had no destination. */
THAW_WEIGHTS_API int thaw_weights_provide(thaw_weights_load* load, uint32_t tensor, uint64_t destination);
THAW_WEIGHTS_API void thaw_weights_get_progress(thaw_weights_load* load, thaw_weights_progress* progress);
/* Ends it early; does not wait. Whoever waits in thaw_weights_next() gets THAW_WEIGHTS_CANCELLED. */
THAW_WEIGHTS_API void thaw_weights_cancel(thaw_weights_load* load);
/* Cancels it unless it has ended, waits until nothing writes to its destinations any more, and frees it. NULL is fine.
 */
THAW_WEIGHTS_API void thaw_weights_free(thaw_weights_load* load);

/* Why the load has failed, for people: with the file or device and what to do. Empty while it has not. Valid until it
 * is freed. */
THAW_WEIGHTS_API const char* thaw_weights_load_error(thaw_weights_load* load);
/* Why this thread's latest call of thaw_weights_open(), _start() or _provide() has failed. Valid until its next one. */
THAW_WEIGHTS_API const char* thaw_weights_error(void);

#ifdef __cplusplus
}
#endif

#endif
