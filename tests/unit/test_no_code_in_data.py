"""Nothing that reads data can run it: no pickle, no YAML tags, no eval, no shell, no model's own code. By syntax."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("trainer", "store", "api", "worker", "client", "dashboard", "migrations", "bench")

MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "xmlrpc", "jsonpickle"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.jit.load", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load", "numpy.load", "np.load", "pandas.read_pickle", "tarfile.open",
    "zipfile.ZipFile", "shutil.unpack_archive", "torch.hub.load", "input",
}  # fmt: skip
ALLOWED = {
    # The user's verifier: nothing else of ours runs code that a job brings, and this does so inside the sandbox only.
    ("trainer/rewards/user_code.py", "exec"),
    ("trainer/rewards/user_code.py", "compile"),
    # A checkpoint that one's own API sends, unpacked by the filter "data": no links out, no devices, no absolute names.
    ("client/transfers.py", "tarfile.open"),
}


def violations(name: str, source: str) -> set[tuple[str, str]]:
    """(file, what) of each forbidden import and call."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(name, alias.name) for alias in node.names if alias.name.split(".")[0] in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in MODULES:
            found.add((name, node.module))
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS:
                found.add((name, called))
            for keyword in node.keywords:
                # What is not written out may be anything.
                given = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg in ("trust_remote_code", "shell", "allow_pickle") and given is not False:
                    found.add((name, keyword.arg))
                if keyword.arg == "weights_only" and given is not True:
                    found.add((name, keyword.arg))
    return found


def test_nothing_of_ours_can_run_data():
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 250
    found = {each for path in files for each in violations(str(path.relative_to(ROOT)), path.read_text())}
    assert found == ALLOWED


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("import cloudpickle as c", "cloudpickle"),
        ("import torch; torch.load('a')", "torch.load"),
        ("yaml.load(f, Loader=yaml.Loader)", "yaml.load"),
        ("eval('1')", "eval"),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", "trust_remote_code"),
        ("AutoModel.from_pretrained(x, trust_remote_code=flag)", "trust_remote_code"),
        ("subprocess.run('ls', shell=True)", "shell"),
    ],
)
def test_what_is_looked_for_is_found(source, what):
    assert violations("a.py", source) == {("a.py", what)}


def test_the_broker_is_given_and_takes_json_only():
    from kombu.exceptions import ContentDisallowed
    from kombu.serialization import dumps, loads

    from store.doorbell import doorbell_app

    app = doorbell_app("memory://")
    assert app.conf.accept_content == ["json"]
    assert {app.conf.task_serializer, app.conf.result_serializer, app.conf.event_serializer} == {"json"}
    kind, encoding, body = dumps({"a": 1}, serializer="pickle")
    with pytest.raises(ContentDisallowed):
        loads(body, kind, encoding, accept=app.conf.accept_content)
