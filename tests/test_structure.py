"""The rules for the code: which imports, private names and unsafe calls are allowed."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "backhand"
# The packages that each package may import; `calculus` imports only torch.
ALLOWED = {
    "calculus": {"calculus"},
    "config": {"calculus", "config"},
    "data": {"calculus", "config", "data"},
    "reporting": {"calculus", "config", "data", "reporting"},
    "derivations": {"calculus", "config", "derivations"},
    "checking": {"calculus", "config", "derivations", "reporting", "checking"},
    "training": {"calculus", "config", "data", "reporting", "checking", "training"},
    "sweeps": {"calculus", "config", "data", "reporting", "checking", "training", "sweeps"},
}
FOREIGN_TO_CALCULUS = {"lightning", "hydra", "omegaconf", "wandb", "torchmetrics", "sklearn", "numpy", "rich"}


def imports(file: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_run_one_way(file):
    package = file.relative_to(SOURCE).parts[0]
    if package in ("__init__.py", "errors.py"):
        return
    for name in imports(file):
        if name.startswith("backhand.") and name not in ("backhand.__version__", "backhand.errors.UserError"):
            part = name.removeprefix("backhand.")
            assert any(part == allowed or part.startswith(f"{allowed}.") for allowed in ALLOWED[package]), name


@pytest.mark.parametrize("file", sorted((SOURCE / "calculus").glob("*.py")), ids=lambda file: file.name)
def test_the_calculus_imports_only_torch(file):
    assert not {name.partition(".")[0] for name in imports(file)} & FOREIGN_TO_CALCULUS


@pytest.mark.parametrize("file", [SOURCE / "calculus" / name for name in ("activations.py", "losses.py", "choices.py")])
def test_the_tables_of_names_import_no_torch(file):
    assert "torch" not in {name.partition(".")[0] for name in imports(file, top_level_only=True)}


# Documented despite the underscore: exit without clean-up, a copy of a NamedTuple with other values; and a switch of
# the standard library's logging.
PUBLIC = {"os._exit", "batch._replace", "logging.raiseExceptions = …"}
CHECKED = [
    file
    for part in ("calculus", "checking", "config", "data", "derivations", "reporting", "training", "sweeps")
    for file in sorted((SOURCE / part).glob("*.py"))
]
CHECKED += sorted((SOURCE.parent / "hydra_plugins").glob("*.py"))


def private_names(text: str) -> set[str]:
    """The names with a leading underscore that a file uses of other modules, and the names that it replaces in them."""
    tree = ast.parse(text)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    foreign = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            foreign |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found |= {name for name in names if is_private(name)}
        elif isinstance(node, ast.Import):
            found |= {part for alias in node.names for part in alias.name.split(".") if is_private(part)}
        elif isinstance(node, ast.keyword) and is_private(node.arg or ""):
            found.add(str(node.arg))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value
            is_own = node.attr in own or (isinstance(owner, ast.Name) and owner.id in ("self", "cls"))
            if not is_own and ast.unparse(node) not in PUBLIC:
                found.add(ast.unparse(node))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                root = target
                while isinstance(root, ast.Attribute):
                    root = root.value
                if isinstance(target, ast.Attribute) and isinstance(root, ast.Name) and root.id in foreign:
                    found |= {f"{ast.unparse(target)} = …"} - PUBLIC
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_")  # `_target_` is Hydra's public word


@pytest.mark.parametrize("file", CHECKED, ids=lambda file: file.name)
def test_only_public_names_of_other_libraries_are_used_and_none_is_replaced(file):
    assert private_names(file.read_text()) == set()


@pytest.mark.parametrize(
    "line",
    [
        "from torch._C import x", "import torch._dynamo", "trainer.fit_loop.epoch_loop._batches_that_stepped += 1",
        "f(_return_value=3)", "import wandb.util; wandb.util.working_set = 3", "super()._load()",
    ],
)  # fmt: skip
def test_a_private_name_is_detected(line):
    assert private_names(line)


def test_no_test_asserts_how_long_something_takes():
    """Tests may only limit a wait with `time.monotonic`; speed is measured by the benchmarks."""
    clocks = ("process_time", "perf_counter", "os.times", "ru_utime", "ru_stime", "timeit")
    for file in (REPOSITORY / "tests").rglob("*.py"):
        assert file.name == Path(__file__).name or not [clock for clock in clocks if clock in file.read_text()], file


# Calls that can run code from a file, and the files that may use one of them.
RUN = {"eval", "exec", "compile", "__import__"}
UNPICKLE = {
    "pickle": {"load", "loads", "Unpickler"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "joblib": {"load"},
    "dill": {"load", "loads"},
    "cloudpickle": {"load", "loads"},
    "pd": {"read_pickle", "read_hdf"},
    "pandas": {"read_pickle", "read_hdf"},
    "os": {"system", "popen"},
    "yaml": {"load", "load_all", "unsafe_load", "full_load"},
    "runpy": {"run_path", "run_module"},
}
EXCEPTIONS = {
    # The user asks to run the file that is checked; it runs in a separate process.
    "derivations/loading.py": {"exec", "compile"},
    "derivations/asking.py": {"exec", "eval", "compile"},
    # model.gradient=FILE.py:NAME on a command line; an evaluation does not use it.
    "config/imports.py": {"exec_module"},
}
REPOSITORY = SOURCE.parents[1]
FOLDERS = [REPOSITORY / name for name in ("scripts", "benchmarks", "src")]
FILES = [REPOSITORY / "train.py", *(file for folder in FOLDERS for file in folder.rglob("*.py"))]


def unsafe_calls(text: str) -> set[str]:
    """The calls in a program that can run code from a file."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
        owner, _, name = called.rpartition(".")
        unsafe = (
            (called in RUN and not owner)
            or name in UNPICKLE.get(owner, ())
            or name == "exec_module"
            or (called == "torch.load" and given.get("weights_only") != "True")
            or (name == "load_from_checkpoint")
            or given.get("shell", "False") != "False"
            or given.get("allow_pickle", "False") != "False"
            or (name == "fit" and "ckpt_path" in given and given.get("weights_only") != "True")
        )
        if unsafe:
            found.add(name)
    return found


@pytest.mark.parametrize("file", sorted(FILES), ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_no_file_that_is_read_can_run_code(file):
    place = str(file.relative_to(SOURCE)) if file.is_relative_to(SOURCE) else ""
    assert unsafe_calls(file.read_text()) <= EXCEPTIONS.get(place, set())


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader)",
        "eval(text)",
        "exec(text)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
        "LightningMLP.load_from_checkpoint(path)",
        "trainer.fit(module, ckpt_path=path)",
    ],
)
def test_an_unsafe_call_is_detected(line):
    assert unsafe_calls(line)
