"""vLLM's load format "thaw": `vllm serve MODEL --load-format thaw`.

vLLM finds it by the entry point `vllm.general_plugins` of this package (pyproject.toml) and calls register() in each of
its processes. Written against vLLM 0.28's documented interface (register_model_loader, BaseModelLoader,
weight_utils); it has never run inside vLLM. docs/weights-pipeline.md says what was tried instead.
"""

import os

from . import WeightsError, model_files, stream_files

LOAD_FORMAT = "thaw"


def _device():
    """Where vLLM's process computes: its current CUDA device, else the host."""
    import torch

    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def _directory(loader, model, revision):
    """The model's files on this machine; fetched first as vLLM's own loaders do."""
    if os.path.isdir(model):
        return model
    from vllm.model_executor.model_loader.weight_utils import (
        download_safetensors_index_file_from_hf,
        download_weights_from_hf,
    )

    config = loader.load_config
    directory = download_weights_from_hf(
        model, config.download_dir, ["*.safetensors"], revision=revision, ignore_patterns=config.ignore_patterns
    )
    download_safetensors_index_file_from_hf(
        model, "model.safetensors.index.json", config.download_dir, revision=revision
    )
    return directory


def register():
    """Makes the load format known to vLLM. Called by vLLM; more than once does no harm."""
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    class ThawModelLoader(BaseModelLoader):
        """Streams safetensors files to the device that vLLM computes on.

        Each process of a tensor-parallel engine reads the files itself and keeps its part, as with vLLM's own loaders.
        """

        def __init__(self, load_config):
            super().__init__(load_config)
            extra = load_config.model_loader_extra_config or {}
            unknown = set(extra) - {"window_bytes"}
            if unknown:
                raise ValueError(f"load format {LOAD_FORMAT!r} knows window_bytes, not {', '.join(sorted(unknown))}")
            self._options = {key: int(value) for key, value in extra.items()}

        def download_model(self, model_config):
            _directory(self, model_config.model, model_config.revision)

        def load_weights(self, model, model_config):
            name = getattr(model_config, "model_weights", None) or model_config.model
            files = model_files(_directory(self, name, model_config.revision))
            loaded = model.load_weights(stream_files(files, _device(), "pt", **self._options))
            # As vLLM's default loader: what no file has would keep its random values.
            if loaded is not None and getattr(model_config, "quantization", None) is None:
                missing = {key for key, _ in model.named_parameters()} - set(loaded)
                if missing:
                    raise WeightsError(f"{name} lacks weights: {', '.join(sorted(missing)[:10])}")

    register_model_loader(LOAD_FORMAT)(ThawModelLoader)
