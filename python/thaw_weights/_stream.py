"""Tensors on their way, several at once, handed out as each completes."""

import os
from collections import namedtuple

from . import _library
from ._header import BITS, elements, read_header
from ._library import WeightsError
from ._tensors import backend, device_number

WINDOW_BYTES = 256 << 20  # memory is taken for tensors that are read within so many bytes

#: A part of a tensor: `start` up to `stop` of dimension `dim`.
Slice = namedtuple("Slice", ["dim", "start", "stop"])

# What is loaded: a tensor or a part of one, and where it goes. `label` is what the caller knows it by.
_Part = namedtuple("_Part", ["label", "file", "info", "shape", "device", "offset", "row_bytes", "rows", "file_stride"])


def part_of(label, file, info, device, slice_=None):
    """The rectangle of a file's bytes that a slice of a tensor is."""
    if slice_ is None:
        return _Part(label, file, info, info.shape, device, info.offset, info.nbytes, 1, info.nbytes)
    dim, start, stop = slice_
    if not 0 <= dim < len(info.shape) or not 0 <= start <= stop <= info.shape[dim]:
        raise WeightsError(f"tensor {label!r} of shape {list(info.shape)} has no {start}:{stop} in dimension {dim}")
    bits = BITS[info.dtype]
    inner_bits = elements(info.shape[dim + 1 :]) * bits
    if start * inner_bits % 8 or stop * inner_bits % 8 or info.shape[dim] * inner_bits % 8:
        raise WeightsError(f"tensor {label!r} of type {info.dtype} cannot be cut there: not between two bytes")
    shape = info.shape[:dim] + (stop - start,) + info.shape[dim + 1 :]
    row_bytes = (stop - start) * inner_bits // 8
    rows = elements(info.shape[:dim]) if row_bytes else 0
    offset = info.offset + start * inner_bits // 8
    return _Part(label, file, info, shape, device, offset, row_bytes, rows, info.shape[dim] * inner_bits // 8)


def stream_parts(paths, parts, framework="auto", window_bytes=WINDOW_BYTES):
    """Yields (label, tensor) for each part, in the order in which they complete: about that of the files."""
    memory = backend(framework)
    wanted = [
        _library.Tensor(part.file, part.device, part.offset, part.row_bytes, part.rows, part.file_stride, 0, 0)
        for part in parts
    ]
    loader = _library.take_loader()
    tensors = {}  # C writes to them: kept until they are done, or nothing is written any more
    load = None

    def serve(events):
        needed = [tensor for kind, tensor in events if kind == _library.NEEDS_DESTINATION]
        addresses = []
        for index in needed:
            part = parts[index]
            tensors[index], address = memory.make(part.info.dtype, part.shape, part.device)
            addresses.append(address)
        memory.settle({parts[index].device for index in needed})
        for index, address in zip(needed, addresses):
            load.provide(index, address)

    try:
        load = loader.start(paths, wanted, window_bytes)
        while True:
            events = [load.next()]
            while events[-1][0] != _library.END and (event := load.next(wait=False)) is not None:
                events.append(event)
            serve(events)  # first: reading goes on meanwhile
            for kind, index in events:
                if kind == _library.END:
                    return
                if kind == _library.DONE:
                    if index not in tensors:  # without bytes it never asks for memory
                        tensors[index], _ = memory.make(parts[index].info.dtype, parts[index].shape, parts[index].device)
                    yield parts[index].label, tensors.pop(index)
    finally:
        if load is not None:
            load.free()
        _library.give_back(loader)


def _as_list(paths):
    return [os.fspath(paths)] if isinstance(paths, (str, bytes, os.PathLike)) else [os.fspath(path) for path in paths]


def stream_files(paths, device="cpu", framework="auto", select=None, window_bytes=WINDOW_BYTES):
    """Yields (name, tensor) for each tensor of safetensors files as soon as it has arrived on the device.

    `select(name, info)`, where info has dtype and shape, says what is wanted of each: True or None all of it, False
    nothing, a Slice a part. Memory is taken a window ahead of the reading, so whoever uses a tensor and drops it before
    the next holds no more than that.
    """
    paths = _as_list(paths)
    number = device_number(device)
    parts = []
    for file, path in enumerate(paths):
        for name, info in read_header(path)[0].items():
            choice = True if select is None else select(name, info)
            if choice is not False:
                parts.append(part_of(name, file, info, number, choice if isinstance(choice, Slice) else None))
    return stream_parts(paths, parts, framework, window_bytes)


def stream_shards(paths, devices, split, framework="auto", window_bytes=WINDOW_BYTES):
    """Yields (name, rank, tensor) with a shard for each of several devices of this process. The files are read once.

    `split(name, info)` says along which dimension a tensor is cut into len(devices) equal shards; None: each gets all.
    """
    paths = _as_list(paths)
    numbers = [device_number(device) for device in devices]
    parts = []
    for file, path in enumerate(paths):
        for name, info in read_header(path)[0].items():
            dim = split(name, info)
            for rank, number in enumerate(numbers):
                part = None
                if dim is not None:
                    if not 0 <= dim < len(info.shape) or info.shape[dim] % len(numbers):
                        raise WeightsError(f"tensor {name!r} of shape {list(info.shape)} cannot be cut into {len(numbers)} along {dim}")
                    step = info.shape[dim] // len(numbers)
                    part = Slice(dim, rank * step, (rank + 1) * step)
                parts.append(part_of((name, rank), file, info, number, part))
    for (name, rank), tensor in stream_parts(paths, parts, framework, window_bytes):
        yield name, rank, tensor
