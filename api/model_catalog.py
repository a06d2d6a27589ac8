"""Which models a job may name on this platform: the builtin ones, the operator's folder, the operator's allowlist."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from store.settings import Settings
from trainer.spec.model import BUILTIN_MODELS, parse_model_id


@dataclass(frozen=True)
class CatalogEntry:
    id: str
    source: Literal["builtin", "path", "hf"]


def available(settings: Settings) -> list[CatalogEntry]:
    """Every model but the checkpoints of jobs (`job/JOB_ID@STEP`)."""
    entries = [CatalogEntry(model_id, "builtin") for model_id in BUILTIN_MODELS]
    if settings.models_dir is not None and settings.models_dir.is_dir():
        ids = [f"path/{folder.name}" for folder in sorted(settings.models_dir.iterdir())]
        entries += [CatalogEntry(model_id, "path") for model_id in ids if _named_well(model_id)]
    entries += [CatalogEntry(f"hf/{name}", "hf") for name in settings.hf_allowlist if _named_well(f"hf/{name}")]
    return [entry for entry in entries if missing_because(entry.id, settings) is None]


def missing_because(model_id: str, settings: Settings) -> str | None:
    """Why there is no such model here; None when there is. Checkpoints of jobs are the store's to check."""
    source, name = parse_model_id(model_id)
    if source == "path":
        if settings.models_dir is None:
            return f"no model {model_id!r}: this platform has no models folder (ASYM_MODELS_DIR)"
        folder = settings.models_dir / name
        if not folder.resolve().is_relative_to(settings.models_dir.resolve()):
            return f"no model {model_id!r}"  # a link that leads out of the folder
        return _incomplete_because(model_id, folder)
    if source == "hf" and name not in settings.hf_allowlist:
        return f"no model {model_id!r}: {name} is not on this platform's allowlist (ASYM_HF_ALLOWLIST)"
    return None


def _incomplete_because(model_id: str, folder: Path) -> str | None:
    if not folder.is_dir():
        return f"no model {model_id!r}"
    if not (folder / "config.json").is_file():
        return f"no model {model_id!r}: its folder has no config.json"
    if not any(path.is_file() for path in folder.glob("*.safetensors")):
        return f"no model {model_id!r}: its folder has no *.safetensors file, the only weights that are read"
    return None


def _named_well(model_id: str) -> bool:
    try:
        parse_model_id(model_id)
    except ValueError:
        return False
    return True
