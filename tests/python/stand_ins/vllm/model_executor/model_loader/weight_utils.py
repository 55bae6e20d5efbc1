calls = []


def download_weights_from_hf(model_name_or_path, cache_dir, allow_patterns, revision=None, subfolder=None, ignore_patterns=None):
    calls.append(("weights", model_name_or_path, cache_dir, allow_patterns, revision, ignore_patterns))
    return cache_dir


def download_safetensors_index_file_from_hf(model_name_or_path, index_file, cache_dir, subfolder=None, revision=None):
    calls.append(("index", model_name_or_path, index_file, cache_dir, revision))
