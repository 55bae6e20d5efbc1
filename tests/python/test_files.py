"""safetensors files into memory of the host, with NumPy and without."""

import json
import os
import struct
import unittest

import support
from support import FilesTest, pattern, safetensors_bytes, without

import thaw_weights
from thaw_weights import RawTensor, Slice, WeightsError

try:
    import numpy
except ImportError:
    numpy = None

TENSORS = {
    "embed": ("F32", (100, 30), pattern(12_000, 1)),
    "proj": ("BF16", (64, 50), pattern(6_400, 2)),
    "none": ("F32", (0, 4), b""),
    "scalar": ("I64", (), pattern(8, 3)),
}


def contents(tensor):
    return bytes(tensor.data) if isinstance(tensor, RawTensor) else tensor.tobytes()


class Reading(FilesTest):
    def check_all(self, loaded):
        self.assertEqual(set(loaded), set(TENSORS))
        for name, (_, shape, data) in TENSORS.items():
            self.assertEqual(tuple(loaded[name].shape), shape)
            self.assertEqual(contents(loaded[name]), data, name)

    def test_without_any_framework(self):
        with without("torch", "numpy"):
            loaded = thaw_weights.load_file(self.model(tensors=TENSORS))
        self.check_all(loaded)
        self.assertTrue(all(isinstance(tensor, RawTensor) for tensor in loaded.values()))
        self.assertEqual(loaded["proj"].dtype, "BF16")

    @unittest.skipIf(numpy is None, "NumPy is not here")
    def test_with_numpy(self):
        with without("torch"):
            loaded = thaw_weights.load_file(self.model(tensors=TENSORS))
        self.check_all(loaded)
        self.assertEqual(loaded["embed"].dtype, numpy.float32)
        self.assertIsInstance(loaded["proj"], RawTensor, "NumPy has no bfloat16")
        self.assertEqual(loaded["scalar"].shape, ())

    def test_several_files_as_they_stream(self):
        paths = [self.model(f"{i}.safetensors", {f"t{i}": ("U8", (3000,), pattern(3000, i))}) for i in range(4)]
        seen = {}
        for name, tensor in thaw_weights.stream_files(paths, framework="raw", window_bytes=1000):
            seen[name] = contents(tensor)
        self.assertEqual(seen, {f"t{i}": pattern(3000, i) for i in range(4)})

    def test_only_what_is_selected(self):
        path = self.model(tensors=TENSORS)

        def select(name, info):
            return {"embed": Slice(1, 5, 9), "proj": Slice(0, 10, 12)}.get(name, False)

        loaded = dict(thaw_weights.stream_files(path, framework="raw", select=select))
        self.assertEqual(set(loaded), {"embed", "proj"})
        rows = TENSORS["embed"][2]
        self.assertEqual(contents(loaded["embed"]), b"".join(rows[r * 120 + 20 : r * 120 + 36] for r in range(100)))
        self.assertEqual(loaded["embed"].shape, (100, 4))
        self.assertEqual(contents(loaded["proj"]), TENSORS["proj"][2][1000:1200])

    def test_leaving_in_the_middle(self):
        path = self.model(tensors={f"t{i}": ("U8", (100_000,), pattern(100_000, i)) for i in range(20)})
        stream = thaw_weights.stream_files(path, framework="raw", window_bytes=100_000)
        next(stream)
        stream.close()
        self.check_all(thaw_weights.load_file(self.model("other.safetensors", TENSORS), framework="raw"))

    def test_two_streams_at_once(self):
        path = self.model(tensors=TENSORS)
        first = thaw_weights.stream_files(path, framework="raw")
        next(first)
        self.check_all(thaw_weights.load_file(path, framework="raw"))
        self.assertEqual(len(list(first)), len(TENSORS) - 1)

    def test_safe_open(self):
        path = self.model(tensors=TENSORS, metadata={"format": "pt"})
        with thaw_weights.safe_open(path, framework="raw") as file:
            self.assertEqual(set(file.keys()), set(TENSORS))
            self.assertEqual(file.metadata(), {"format": "pt"})
            self.assertEqual(contents(file.get_tensor("proj")), TENSORS["proj"][2])
            lazy = file.get_slice("embed")
            self.assertEqual(lazy.get_shape(), [100, 30])
            self.assertEqual(lazy.get_dtype(), "F32")
            data = TENSORS["embed"][2]
            self.assertEqual(contents(lazy[2:5]), data[240:600])
            self.assertEqual(contents(lazy[-1:]), data[-120:])
            self.assertEqual(contents(lazy[:, 29:]), b"".join(data[r * 120 + 116 : r * 120 + 120] for r in range(100)))
            self.assertEqual(contents(lazy[...]), data)
            self.assertEqual(contents(lazy[7:3]), b"")
            for index in (3, slice(0, 4, 2), (slice(0, 1), slice(0, 1)), (slice(0, 1),) * 3):
                with self.assertRaises(WeightsError):
                    lazy[index]
            with self.assertRaisesRegex(WeightsError, "no tensor 'absent'"):
                file.get_tensor("absent")


class Refusing(FilesTest):
    def refused(self, contents, reason):
        path = self.write("bad.safetensors", contents)
        with self.assertRaisesRegex(WeightsError, reason):
            thaw_weights.load_file(path, framework="raw")

    def header(self, header, data=b""):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    def test_what_is_no_safetensors_file(self):
        self.refused(b"", "no safetensors file")
        self.refused(b"\xff" * 100, "no safetensors file")
        self.refused(self.header(b"{" * 100_000), "no JSON|too deep|no safetensors")
        self.refused(self.header(b"[" * 100_000), "no JSON|no safetensors")
        self.refused(self.header([1]), "no object")
        self.refused(self.header({"__metadata__": {"a": 1}}), "metadata")
        self.refused(self.header(b'{"a":{},"a":{}}'), "twice")
        with self.assertRaisesRegex(WeightsError, "No such file"):
            thaw_weights.load_file(os.path.join(self.directory, "absent"))

    def test_tensors_that_cannot_be(self):
        def entry(dtype="U8", shape=(4,), offsets=(0, 4)):
            return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}

        for bad in (
            entry(dtype="F7"), entry(dtype=None), entry(shape=(5,)), entry(shape=(-4,)), entry(shape="4"),
            entry(shape=(True, 4)), entry(offsets=(0, 5)), entry(offsets=(4, 0)), entry(offsets=(-4, 0)), entry(offsets=(0,)),
            entry(shape=(1 << 62, 1 << 62)), entry(shape=[1] * 100), entry(shape=(2.0, 2)), {"t": 5},
        ):  # fmt: skip
            self.refused(self.header(bad, b"data"), "tensor 't'")
        overlapping = {name: {"dtype": "U8", "shape": [4], "data_offsets": [at, at + 4]} for name, at in (("a", 0), ("b", 2))}
        self.refused(self.header(overlapping, b"datas!"), "overlaps")

    def test_a_file_that_was_cut_short(self):
        whole = safetensors_bytes(TENSORS)
        self.refused(whole[:-1], "incomplete or damaged")
        self.refused(whole[:50], "cut short")

    def test_devices_and_frameworks_that_are_not_there(self):
        path = self.model(tensors=TENSORS)
        with without("torch"):
            with self.assertRaisesRegex(WeightsError, "need PyTorch"):
                thaw_weights.load_file(path, device="cuda:0")
            with self.assertRaisesRegex(WeightsError, "not installed"):
                thaw_weights.load_file(path, framework="pt")
        with self.assertRaisesRegex(WeightsError, "no device 'tpu'"):
            thaw_weights.load_file(path, device="tpu")


class Directories(FilesTest):
    def test_an_index_names_the_files(self):
        for name in ("a.safetensors", "b.safetensors", "stray.safetensors"):
            self.model(name, TENSORS)
        self.write("model.safetensors.index.json", json.dumps({"weight_map": {"x": "b.safetensors", "y": "a.safetensors"}}).encode())
        names = [os.path.basename(path) for path in thaw_weights.model_files(self.directory)]
        self.assertEqual(names, ["a.safetensors", "b.safetensors"])

    def test_without_an_index_all_of_them(self):
        self.model("only.safetensors", TENSORS)
        self.assertEqual(len(thaw_weights.model_files(self.directory)), 1)

    def test_hostile_ones(self):
        with self.assertRaisesRegex(WeightsError, "holds no safetensors"):
            thaw_weights.model_files(self.directory)
        for text in (b"[]", b"{}", b'{"weight_map": 3}', b'{"weight_map": {"a": "../x"}}', b'{"weight_map": {"a": 3}}', b"nonsense"):
            self.write("model.safetensors.index.json", text)
            with self.assertRaises(WeightsError):
                thaw_weights.model_files(self.directory)


if __name__ == "__main__":
    unittest.main()
