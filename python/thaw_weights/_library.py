"""libthaw_weights.so through ctypes: the C ABI of src/node/weights/pipeline/thaw_weights.h, call for call."""

import ctypes
import os
import threading
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

VERSION = 100  # of the header; equal hundreds fit
OK, TIMEOUT, CANCELLED = 0, 1, 2
END, DONE, NEEDS_DESTINATION = 0, 1, 2
HOST = -1

_POLL_MS = 100  # so that Ctrl-C is not held up by a wait in C


class WeightsError(RuntimeError):
    """Why weights could not be loaded; the message names the file, tensor or device and what to do."""

    def __init__(self, message, status=0):
        super().__init__(message)
        self.status = status


class _Options(Structure):
    _fields_ = [("chunk_bytes", c_uint64), ("chunks", c_uint32), ("cuda_library", c_char_p)]


class _LoadOptions(Structure):
    _fields_ = [("window_bytes", c_uint64)]


class Tensor(Structure):
    """thaw_weights_tensor."""

    _fields_ = [
        ("file", c_uint32),
        ("device", c_int32),
        ("offset", c_uint64),
        ("row_bytes", c_uint64),
        ("rows", c_uint64),
        ("file_stride", c_uint64),
        ("destination", c_uint64),
        ("destination_stride", c_uint64),
    ]


class _Event(Structure):
    _fields_ = [("kind", c_int32), ("tensor", c_uint32)]


class Progress(Structure):
    """thaw_weights_progress."""

    _fields_ = [
        ("tensors", c_uint64),
        ("tensors_done", c_uint64),
        ("bytes", c_uint64),
        ("bytes_done", c_uint64),
        ("read_bytes", c_uint64),
        ("buffered_bytes", c_uint64),
        ("pageable_bytes", c_uint64),
        ("seconds", c_double),
    ]


_SIGNATURES = {
    "thaw_weights_version": (c_int, []),
    "thaw_weights_error": (c_char_p, []),
    "thaw_weights_open": (c_int, [POINTER(_Options), POINTER(c_void_p)]),
    "thaw_weights_close": (None, [c_void_p]),
    "thaw_weights_start": (
        c_int,
        [c_void_p, POINTER(c_char_p), c_size_t, POINTER(Tensor), c_size_t, POINTER(_LoadOptions), POINTER(c_void_p)],
    ),
    "thaw_weights_next": (c_int, [c_void_p, c_int, POINTER(_Event)]),
    "thaw_weights_provide": (c_int, [c_void_p, c_uint32, c_uint64]),
    "thaw_weights_get_progress": (None, [c_void_p, POINTER(Progress)]),
    "thaw_weights_cancel": (None, [c_void_p]),
    "thaw_weights_free": (None, [c_void_p]),
    "thaw_weights_load_error": (c_char_p, [c_void_p]),
}


def _candidates():
    named = os.environ.get("THAW_WEIGHTS_LIBRARY")
    if named:
        return [named]
    here = os.path.dirname(os.path.abspath(__file__))
    return [
        os.path.join(here, "libthaw_weights.so"),
        os.path.join(here, "..", "..", "build", "release", "libthaw_weights.so"),
        "libthaw_weights.so",
    ]


_library = None
_lock = threading.Lock()


def library():
    """The loaded library. WeightsError when it is nowhere, or of another version."""
    global _library
    with _lock:
        if _library is not None:
            return _library
        reasons = []
        for path in _candidates():
            try:
                loaded = ctypes.CDLL(path)
            except OSError as error:
                reasons.append(str(error))
                continue
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(loaded, name)
                function.restype, function.argtypes = result, arguments
            if loaded.thaw_weights_version() // 100 != VERSION // 100:
                raise WeightsError(f"{path} is of version {loaded.thaw_weights_version()}, this module of {VERSION}")
            _library = loaded
            return loaded
        raise WeightsError(
            "cannot load libthaw_weights.so; set THAW_WEIGHTS_LIBRARY to its path: " + "; ".join(reasons)
        )


def _text(message):
    return message.decode(errors="replace") if message else "unknown error"


class Loader:
    """thaw_weights_loader: a ring of memory, pinned once, and a thread. Used for one load after the other."""

    def __init__(self):
        self._library = library()
        self._handle = c_void_p()
        driver = os.environ.get("THAW_WEIGHTS_CUDA_LIBRARY")
        options = _Options(0, 0, driver.encode() if driver else None)
        status = self._library.thaw_weights_open(byref(options), byref(self._handle))
        if status != OK:
            raise WeightsError(_text(self._library.thaw_weights_error()), status)

    def start(self, paths, tensors, window_bytes):
        files = (c_char_p * len(paths))(*[os.fsencode(path) for path in paths])
        list_of_tensors = (Tensor * len(tensors))(*tensors)
        handle = c_void_p()
        options = _LoadOptions(window_bytes)
        status = self._library.thaw_weights_start(
            self._handle, files, len(paths), list_of_tensors, len(tensors), byref(options), byref(handle)
        )
        if status != OK:
            raise WeightsError(_text(self._library.thaw_weights_error()), status)
        return Load(self._library, handle)

    def close(self):
        handle, self._handle = self._handle, c_void_p()
        self._library.thaw_weights_close(handle)


class Load:
    """thaw_weights_load."""

    def __init__(self, loaded, handle):
        self._library = loaded
        self._handle = handle

    def next(self, wait=True):
        """The next (kind, tensor); None when there is none and `wait` is false. WeightsError when the load has failed."""
        event = _Event()
        while True:
            status = self._library.thaw_weights_next(self._handle, _POLL_MS if wait else 0, byref(event))
            if status == OK:
                return event.kind, event.tensor
            if status != TIMEOUT:
                raise WeightsError(_text(self._library.thaw_weights_load_error(self._handle)), status)
            if not wait:
                return None

    def provide(self, tensor, address):
        status = self._library.thaw_weights_provide(self._handle, tensor, address)
        if status != OK:
            raise WeightsError(_text(self._library.thaw_weights_error()), status)

    def progress(self):
        progress = Progress()
        self._library.thaw_weights_get_progress(self._handle, byref(progress))
        return progress

    def free(self):
        handle, self._handle = self._handle, c_void_p()
        self._library.thaw_weights_free(handle)


_idle_loaders = []


def take_loader():
    """A loader for one load: one that is idle, so that its ring is pinned once per process."""
    with _lock:
        if _idle_loaders:
            return _idle_loaders.pop()
    return Loader()


def give_back(loader):
    with _lock:
        if not _idle_loaders:
            _idle_loaders.append(loader)
            return
    loader.close()


def _forget_loaders():
    # A forked child has neither their threads nor, for the driver, a context. What they hold is the parent's.
    global _lock
    _lock = threading.Lock()
    _idle_loaders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_loaders)
