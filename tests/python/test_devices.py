"""Onto emulated devices, with stand-ins of PyTorch and vLLM: the glue, and the real pipeline below it."""

import os
import sys
import types
import unittest

import support
from support import FilesTest, modules, pattern

import thaw_weights
from thaw_weights import WeightsError

TENSORS = {
    "a": ("F32", (50, 40), pattern(8000, 1)),
    "b": ("BF16", (128, 30), pattern(7680, 2)),
    "empty": ("F16", (0,), b""),
}


class OnDevices(FilesTest):
    def setUp(self):
        super().setUp()
        stand_ins = modules("torch", "vllm")
        stand_ins.__enter__()
        self.addCleanup(stand_ins.__exit__, None, None, None)
        import torch

        self.torch = torch

    def test_a_file_on_a_device(self):
        loaded = thaw_weights.load_file(self.model(tensors=TENSORS), device="cuda:1")
        for name, (_, shape, data) in TENSORS.items():
            self.assertEqual(loaded[name].device, "cuda:1")
            self.assertEqual(loaded[name].shape, shape)
            self.assertEqual(loaded[name].contents(), data)
        self.assertIn(1, self.torch.cuda.synchronized, "memory may still have been in use")

    def test_shards_of_several_devices(self):
        path = self.model(tensors=TENSORS)
        shards = {}
        for name, rank, tensor in thaw_weights.stream_shards(
            path, ["cuda:0", "cuda:1"], lambda name, info: {"a": 0, "b": 1}.get(name)
        ):
            shards[name, rank] = tensor
        a, b = TENSORS["a"][2], TENSORS["b"][2]
        self.assertEqual([shards["a", rank].contents() for rank in (0, 1)], [a[:4000], a[4000:]])
        for rank in (0, 1):
            columns = b"".join(b[row * 60 + rank * 30 : row * 60 + rank * 30 + 30] for row in range(128))
            self.assertEqual(shards["b", rank].contents(), columns)
            self.assertEqual(shards["b", rank].device, f"cuda:{rank}")
            self.assertEqual(shards["empty", rank].shape, (0,))
        with self.assertRaisesRegex(WeightsError, "cannot be cut into 3"):
            list(thaw_weights.stream_shards(path, ["cpu"] * 3, lambda name, info: 0))

    def test_a_type_that_pytorch_lacks(self):
        with self.assertRaisesRegex(WeightsError, "no type for F64"):
            thaw_weights.load_file(self.model(tensors={"x": ("F64", (1,), bytes(8))}), device="cuda:0")

    def test_a_device_that_fails(self):
        path = self.model(tensors=TENSORS)
        os.environ["THAW_EMULATOR_FAIL"] = "cuMemcpyHtoDAsync_v2=999"
        try:
            with self.assertRaisesRegex(WeightsError, "cuda:0: .* failed: unknown error"):
                thaw_weights.load_file(path, device="cuda:0")
        finally:
            del os.environ["THAW_EMULATOR_FAIL"]
        self.assertEqual(thaw_weights.load_file(path, device="cuda:0")["a"].contents(), TENSORS["a"][2])


class Model:
    """As a vLLM model takes weights."""

    def __init__(self, names):
        self.names = names
        self.loaded = {}

    def named_parameters(self):
        return [(name, None) for name in self.names]

    def load_weights(self, weights):
        for name, tensor in weights:
            self.loaded[name] = (tensor.device, tensor.contents())
        return set(self.loaded)


class InVllm(OnDevices):
    def loader(self, **extra):
        from thaw_weights import vllm_plugin
        from vllm.model_executor.model_loader import get_model_loader

        vllm_plugin.register()
        vllm_plugin.register()
        config = types.SimpleNamespace(
            load_format="thaw", model_loader_extra_config=extra, download_dir=self.directory, ignore_patterns=["original/*"]
        )
        return get_model_loader(config)

    def test_weights_reach_the_model_on_the_current_device(self):
        self.model(tensors=TENSORS)
        model = Model(["a", "b", "empty"])
        config = types.SimpleNamespace(model=self.directory, revision=None, quantization=None)
        loader = self.loader(window_bytes=4096)
        loader.download_model(config)
        loader.load_weights(model, config)
        self.assertEqual(model.loaded, {name: ("cuda:1", data) for name, (_, _, data) in TENSORS.items()})

    def test_a_model_that_is_not_local_is_fetched_by_vllm(self):
        self.model(tensors=TENSORS)
        config = types.SimpleNamespace(model="org/name", revision="main", quantization=None)
        self.loader().load_weights(Model(["a"]), config)
        from vllm.model_executor.model_loader import weight_utils

        self.assertEqual([call[0] for call in weight_utils.calls], ["weights", "index"])
        self.assertEqual(weight_utils.calls[0][1:], ("org/name", self.directory, ["*.safetensors"], "main", ["original/*"]))
        self.assertEqual(weight_utils.calls[1][4], "main")

    def test_missing_weights_and_unknown_options_are_told(self):
        self.model(tensors=TENSORS)
        config = types.SimpleNamespace(model=self.directory, revision=None, quantization=None)
        with self.assertRaisesRegex(WeightsError, "lacks weights: lm_head"):
            self.loader().load_weights(Model(["a", "lm_head"]), config)
        with self.assertRaisesRegex(ValueError, "speed"):
            self.loader(speed=11)

    def test_the_entry_point_is_declared(self):
        with open(os.path.join(support.ROOT, "python", "pyproject.toml"), encoding="utf-8") as file:
            text = file.read()
        self.assertIn('[project.entry-points."vllm.general_plugins"]\nthaw = "thaw_weights.vllm_plugin:register"', text)


if __name__ == "__main__":
    unittest.main()
