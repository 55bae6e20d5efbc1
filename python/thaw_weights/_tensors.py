"""Memory for tensors, as whatever framework there is has them: PyTorch, else NumPy, else plain memory."""

import ctypes
import importlib
import mmap

from ._header import BITS
from ._library import HOST, WeightsError

_TORCH_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
_NUMPY_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F16": "float16", "F32": "float32", "F64": "float64", "C64": "complex64",
}  # fmt: skip


class RawTensor:
    """Bytes of the host with a type and a shape, where no framework knows the type."""

    def __init__(self, dtype, shape):
        self.dtype = dtype  #: as safetensors names it: "BF16"
        self.shape = tuple(shape)
        bits = BITS[dtype]
        for size in self.shape:
            bits *= size
        self.nbytes = bits // 8
        self._map = mmap.mmap(-1, max(self.nbytes, 1))
        self.data = memoryview(self._map)[: self.nbytes]  #: the bytes

    def __repr__(self):
        return f"RawTensor(dtype={self.dtype!r}, shape={self.shape})"


def device_number(device):
    """-1 for "cpu", N for "cuda:N" (or N, or a torch.device)."""
    if isinstance(device, int) and not isinstance(device, bool) and device >= 0:
        return device
    text = str(device)
    if text == "cpu":
        return HOST
    if text == "cuda":
        return 0
    if text.startswith("cuda:") and text[5:].isdecimal():
        return int(text[5:])
    raise WeightsError(f"there is no device {text!r}; use \"cpu\" or \"cuda:0\"")


def _module(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class _Torch:
    def __init__(self, torch):
        self._torch = torch

    def make(self, dtype, shape, device):
        kind = getattr(self._torch, _TORCH_NAMES.get(dtype, ""), None)
        if kind is None:
            raise WeightsError(f"this PyTorch has no type for {dtype}")
        tensor = self._torch.empty(shape, dtype=kind, device="cpu" if device == HOST else f"cuda:{device}")
        return tensor, tensor.data_ptr()

    def settle(self, devices):
        """New memory of a device may be old memory that kernels still use: waits until those are done."""
        for device in devices:
            if device != HOST:
                self._torch.cuda.current_stream(device).synchronize()


class _Host:
    """NumPy's arrays where NumPy is there and knows the type, else RawTensor."""

    def __init__(self, numpy):
        self._numpy = numpy

    def make(self, dtype, shape, device):
        if device != HOST:
            raise WeightsError(f"tensors on cuda:{device} need PyTorch, which is not installed")
        if self._numpy is not None and dtype in _NUMPY_NAMES:
            array = self._numpy.empty(shape, dtype=_NUMPY_NAMES[dtype])
            return array, array.ctypes.data
        raw = RawTensor(dtype, shape)
        return raw, ctypes.addressof(ctypes.c_char.from_buffer(raw.data)) if raw.nbytes else 0

    def settle(self, devices):
        pass


def backend(framework="auto"):
    """`framework`: "auto", "pt" (PyTorch), "np" (NumPy) or "raw" (neither)."""
    if framework in ("auto", "pt", "torch"):
        torch = _module("torch")
        if torch is not None:
            return _Torch(torch)
        if framework != "auto":
            raise WeightsError("PyTorch is not installed")
    if framework in ("auto", "np", "numpy"):
        numpy = _module("numpy")
        if numpy is None and framework != "auto":
            raise WeightsError("NumPy is not installed")
        return _Host(numpy)
    if framework == "raw":
        return _Host(None)
    raise WeightsError(f"there is no framework {framework!r}; use \"auto\", \"pt\", \"np\" or \"raw\"")
