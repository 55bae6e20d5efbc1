"""As much of PyTorch as thaw_weights uses, over the emulated driver: memory of devices, their data pointers, streams."""

import ctypes
import os

float32, float16, bfloat16, uint8, int64 = "float32", "float16", "bfloat16", "uint8", "int64"
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "uint8": 1, "int64": 8}


class _Driver:
    def __init__(self):
        self.library = ctypes.CDLL(os.environ["THAW_WEIGHTS_CUDA_LIBRARY"])
        self.contexts = {}
        self.call("cuInit", 0)

    def call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        if code != 0:
            raise RuntimeError(f"{name} returned {code}")

    def use(self, device):
        if device not in self.contexts:
            context = ctypes.c_void_p()
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self.contexts[device] = context
        self.call("cuCtxSetCurrent", self.contexts[device])


_driver = None


def driver():
    global _driver
    _driver = _driver or _Driver()
    return _driver


class Tensor:
    def __init__(self, shape, dtype, device):
        self.shape, self.dtype, self.device = tuple(shape), dtype, device
        self.nbytes = _BYTES[dtype]
        for size in self.shape:
            self.nbytes *= size
        self._address = ctypes.c_uint64()
        if device == "cpu":
            self._memory = (ctypes.c_char * max(self.nbytes, 1))()
            self._address.value = ctypes.addressof(self._memory)
        elif self.nbytes:
            driver().use(self._ordinal())
            driver().call("cuMemAlloc_v2", ctypes.byref(self._address), ctypes.c_size_t(self.nbytes))

    def _ordinal(self):
        return int(self.device.split(":")[1])

    def data_ptr(self):
        return self._address.value

    def contents(self):
        """Not PyTorch's: the bytes, read back."""
        if self.device == "cpu":
            return bytes(self._memory)[: self.nbytes]
        read = (ctypes.c_char * max(self.nbytes, 1))()
        if self.nbytes:
            driver().use(self._ordinal())
            driver().call("cuMemcpyDtoH_v2", read, self._address, ctypes.c_size_t(self.nbytes))
        return bytes(read)[: self.nbytes]

    def __del__(self):
        if self.device != "cpu" and self._address.value:
            driver().use(self._ordinal())
            driver().call("cuMemFree_v2", self._address)


def empty(shape, dtype=None, device="cpu"):
    return Tensor(shape, dtype, device)


class _Stream:
    def __init__(self, device):
        self._device = device

    def synchronize(self):
        cuda.synchronized.append(self._device)


class cuda:
    synchronized = []

    @staticmethod
    def is_available():
        return "THAW_WEIGHTS_CUDA_LIBRARY" in os.environ

    @staticmethod
    def current_device():
        return 1

    @staticmethod
    def current_stream(device):
        return _Stream(device)
