"""What the tests share: safetensors files with known contents, and stand-ins for modules that are not here."""

import json
import os
import struct
import sys
import tempfile
import unittest
from contextlib import contextmanager

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "python"))
STAND_INS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stand_ins")


def pattern(count, seed=0):
    """Bytes that differ from place to place."""
    return bytes((i * 131 + i // 251 + seed * 17) % 256 for i in range(count))


def safetensors_bytes(tensors, metadata=None):
    """A file of {name: (dtype, shape, bytes)}, as the safetensors package writes it."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, contents) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(contents)]}
        data += contents
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


class FilesTest(unittest.TestCase):
    """With a directory on a disk: a tmpfs may refuse direct reads."""

    def setUp(self):
        self._directory = tempfile.TemporaryDirectory(prefix="thaw-python-", dir="/var/tmp")
        self.directory = self._directory.name
        self.addCleanup(self._directory.cleanup)

    def write(self, name, contents):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(contents)
        return path

    def model(self, name="model.safetensors", tensors=None, **options):
        return self.write(name, safetensors_bytes(tensors, **options))


@contextmanager
def modules(*names):
    """Stand-ins of these modules, and no others of them."""

    def forget():
        return {key: sys.modules.pop(key) for key in list(sys.modules) if key.split(".")[0] in names}

    kept = forget()
    sys.path.insert(0, STAND_INS)
    try:
        yield
    finally:
        sys.path.remove(STAND_INS)
        forget()
        sys.modules.update(kept)


@contextmanager
def without(*names):
    """As if these modules were not installed."""
    kept = {name: sys.modules.get(name, modules) for name in names}
    for name in names:
        sys.modules[name] = None
    try:
        yield
    finally:
        for name, module in kept.items():
            if module is modules:
                del sys.modules[name]
            else:
                sys.modules[name] = module
