"""The header of a safetensors file: eight bytes of length, then JSON. Files come from elsewhere, so nothing is taken on
trust. Format: https://huggingface.co/docs/safetensors/index#format"""

import json
import os
import struct
from collections import namedtuple

from ._library import WeightsError

MAX_HEADER_BYTES = 100_000_000  # the format's own bound
MAX_INDEX_BYTES = 100_000_000
MAX_DIMENSIONS = 64

BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip

# One tensor of a file: where its bytes lie in it.
TensorInfo = namedtuple("TensorInfo", ["dtype", "shape", "offset", "nbytes"])


def elements(shape):
    count = 1
    for size in shape:
        count *= size
    return count


def _pairs(path):
    def unique(pairs):
        result = dict(pairs)
        if len(result) != len(pairs):
            raise WeightsError(f"{path}: a name occurs twice in its header")
        return result

    return unique


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _tensor(path, name, entry, data_start, data_bytes):
    def bad(what):
        return WeightsError(f"{path}: tensor {name!r} {what}: the file is incomplete or damaged; fetch it again")

    if not isinstance(entry, dict):
        raise bad("is no object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if dtype not in BITS:
        raise WeightsError(f"{path}: tensor {name!r} is of type {dtype!r}, which this version does not know")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(_is_count(size) for size in shape):
        raise bad("has no proper shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(offset) for offset in offsets):
        raise bad("has no proper place")
    begin, end = offsets
    if begin > end or end > data_bytes:
        raise bad(f"lies at {begin} to {end} of {data_bytes} bytes")
    if elements(shape) * BITS[dtype] != (end - begin) * 8:
        raise bad(f"of shape {shape} and type {dtype} has {end - begin} bytes")
    return TensorInfo(dtype, tuple(shape), data_start + begin, end - begin)


def read_header(path):
    """(tensors by name in the order of the file, metadata). WeightsError for whatever is no safetensors file."""
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            length = file.read(8)
            if len(length) < 8:
                raise WeightsError(f"{path} is no safetensors file: it has {file_bytes} bytes")
            (header_bytes,) = struct.unpack("<Q", length)
            if header_bytes > MAX_HEADER_BYTES or 8 + header_bytes > file_bytes:
                raise WeightsError(f"{path} is no safetensors file, or cut short: its header would have {header_bytes} bytes")
            text = file.read(header_bytes)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from None
    try:
        header = json.loads(text, object_pairs_hook=_pairs(path))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no safetensors file: its header is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{path} is no safetensors file: its header is no object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{path}: its metadata are not text")
    data_start = 8 + header_bytes
    tensors = {
        name: _tensor(path, name, entry, data_start, file_bytes - data_start) for name, entry in header.items()
    }
    in_order = sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes))
    end = data_start
    for name, info in in_order:
        if info.offset < end and info.nbytes > 0:
            raise WeightsError(f"{path}: tensor {name!r} overlaps another one: the file is damaged; fetch it again")
        end = max(end, info.offset + info.nbytes)
    return dict(in_order), metadata


def model_files(directory):
    """The safetensors files of a model's directory: those that its index names, else all of them."""
    directory = os.fspath(directory)
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise WeightsError(f"cannot read {directory}: {error.strerror}") from None
    indices = [name for name in names if name.endswith(".safetensors.index.json")]
    if len(indices) == 1:
        path = os.path.join(directory, indices[0])
        try:
            with open(path, "rb") as file:
                weight_map = json.loads(file.read(MAX_INDEX_BYTES))["weight_map"]
            files = sorted(set(weight_map.values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WeightsError(f"{path} is no index of a sharded model: {error!r}") from None
        for name in files:
            if not isinstance(name, str) or os.path.basename(name) != name:
                raise WeightsError(f"{path} names {name!r}, which is no file beside it")
    else:
        files = [name for name in names if name.endswith(".safetensors")]
    if not files:
        raise WeightsError(f"{directory} holds no safetensors files")
    return [os.path.join(directory, name) for name in files]
