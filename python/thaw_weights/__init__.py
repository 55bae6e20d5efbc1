"""Model weights from safetensors files to where an engine computes, at the speed of the hardware.

    from thaw_weights import load_file, safe_open, stream_files

    tensors = load_file("model.safetensors", device="cuda:0")

    for name, tensor in stream_files(["model-1.safetensors", "model-2.safetensors"], device="cuda:0"):
        model.get_parameter(name).data.copy_(tensor)      # while the next ones are on their way

    with safe_open("model.safetensors", device="cpu") as file:
        for name in file.keys():
            rows = file.get_slice(name)[0:16]

Tensors are PyTorch's where it is installed, else NumPy's, else RawTensor. libthaw_weights.so is found beside this module,
in build/release of its checkout, or where THAW_WEIGHTS_LIBRARY says. docs/weights-pipeline.md tells the rest.
"""

import os

from ._header import TensorInfo, model_files, read_header
from ._library import WeightsError
from ._stream import Slice, part_of, stream_files, stream_parts, stream_shards
from ._tensors import RawTensor, device_number

__all__ = [
    "RawTensor",
    "Slice",
    "TensorInfo",
    "WeightsError",
    "load_file",
    "model_files",
    "read_header",
    "safe_open",
    "stream_files",
    "stream_shards",
]
__version__ = "0.1.0"


def load_file(filename, device="cpu", framework="auto"):
    """All tensors of a file, by name, on that device."""
    return dict(stream_files(filename, device, framework))


class safe_open:
    """One file, open to take some of its tensors: as safetensors.safe_open."""

    def __init__(self, filename, framework="auto", device="cpu"):
        self._path = os.fspath(filename)
        self._framework = framework
        self._device = device_number(device)
        self._tensors, self._metadata = read_header(self._path)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        return None

    def keys(self):
        """The tensors' names, in the order in which they lie in the file."""
        return list(self._tensors)

    offset_keys = keys

    def metadata(self):
        return dict(self._metadata)

    def get_tensor(self, name):
        return self._load(name, None)

    def get_slice(self, name):
        """A tensor that is not loaded yet: its shape and type, and parts of it by index."""
        return _LazySlice(self, name, self._info(name))

    def _info(self, name):
        if name not in self._tensors:
            raise WeightsError(f"{self._path} holds no tensor {name!r}")
        return self._tensors[name]

    def _load(self, name, slice_):
        part = part_of(name, 0, self._info(name), self._device, slice_)
        ((_, tensor),) = stream_parts([self._path], [part], self._framework)
        return tensor


class _LazySlice:
    def __init__(self, file, name, info):
        self._file, self._name, self._info = file, name, info

    def get_shape(self):
        return list(self._info.shape)

    def get_dtype(self):
        return self._info.dtype

    def __getitem__(self, index):
        """A part along one dimension: `[2:5]`, `[:, 2:5]`, `[...]`. Only its bytes are read."""
        indices = index if isinstance(index, tuple) else (index,)
        chosen = None
        for dim, one in enumerate(indices):
            if one is Ellipsis and dim == len(indices) - 1:
                break
            if not isinstance(one, slice) or one.step not in (None, 1) or dim >= len(self._info.shape):
                raise WeightsError(f"tensor {self._name!r}: only ranges without a step are read in part, not {index!r}")
            start, stop, _ = one.indices(self._info.shape[dim])
            if (start, stop) == (0, self._info.shape[dim]):
                continue
            if chosen is not None:
                raise WeightsError(f"tensor {self._name!r}: one dimension can be cut at a time, not {index!r}")
            chosen = Slice(dim, start, max(start, stop))
        return self._file._load(self._name, chosen)
