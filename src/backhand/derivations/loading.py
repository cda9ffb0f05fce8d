"""What of somebody's file is executed: imports, definitions and constants, and of a script one turn of its loop.

So a file that trains, plots or reads data as it is loaded is no problem, and a notebook is a file like any other.
"""

import ast
import contextlib
import copy
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

# What a constant may be made with: modules that compute and do not read or draw, and these builtins.
_COMPUTING = {"numpy", "torch", "math", "cmath", "random", "scipy", "itertools", "functools", "collections", "types"}
_BUILTINS = {"abs", "bool", "dict", "enumerate", "float", "int", "len", "list", "map", "max", "min", "range",
             "reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip"}  # fmt: skip
# What the module of a target is called before the name of its file.
MODULE = "target_"
_READING = ("load", "read", "open", "fetch", "save", "from_file", "fromfile", "genfromtxt", "download", "hub")


class RefusedError(Exception):
    """Why the target cannot be judged, in one line.

    Attributes:
        depth: how far it got, so that the best try is told.
        own: whether the file itself stops, and would with other arguments, too.
    """

    def __init__(self, text: str, depth: int = 0, own: bool = False) -> None:
        super().__init__(text)
        self.depth, self.own = depth, own


class EndedError(Exception):
    """Why nothing more is tried, in one line."""


@dataclass
class Source:
    """A file as it was read.

    Attributes:
        path: the file.
        tree: all of it.
        functions: each function's definition by its name, a method's as `Class.method`.
        classes: each class's definition.
        executed: the statements that are executed when it is loaded.
        failed: what a name is missing for, by name: the import or the constant that could not be executed.
        skipped: the line of each name that is assigned by a statement that is not executed.
    """

    path: Path
    tree: ast.Module
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    executed: list[tuple[list[str], Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def module_name(self) -> str:
        """Not the file's own name: it may be that of a module that others import."""
        return f"{MODULE}{self.path.stem}"

    def stepped(self) -> list[str]:
        """The names that a loop at the top of the file changes, and that are defined before it."""
        found: dict[str, None] = {}
        before: set[str] = set()
        for node in self.tree.body:
            if isinstance(node, ast.For | ast.While):
                found |= dict.fromkeys(sorted(_assigned(node) & before))
            before |= _assigned(node)
        return list(found)

    def mentions(self, *names: str) -> bool:
        """Whether the file uses one of these names."""
        nodes = ast.walk(self.tree)
        return any(not {*names}.isdisjoint((getattr(node, "id", ""), getattr(node, "attr", ""))) for node in nodes)

    def imports(self, package: str) -> bool:
        """Whether the file imports it under any name."""
        return any(
            name.partition(".")[0] == package
            for node in ast.walk(self.tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        )

    def numbers(self) -> list[float]:
        """Every number that is written in the file."""
        return [
            float(node.value)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, int | float)
        ]


def read(path: Path) -> Source:
    """Read the file, a Python file or a notebook.

    Raises:
        RefusedError: it is neither, or has a syntax error.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(f"{path}: cannot be read: {error}") from None
    if path.suffix == ".ipynb":
        text = _notebook(path, text)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and path.suffix == ".py" else ""
        raise RefusedError(f"{path}{line}: syntax error: {getattr(error, 'msg', error)}") from None
    source = Source(path, tree)
    for node in tree.body:
        _note_definitions(source, node)
    modules = _imported(tree) | dict.fromkeys(source.classes, "numpy")  # an object of the file's own is a constant, too
    for node in tree.body:
        _note_statement(source, node, modules)
    return source


def fresh(source: Source) -> dict[str, Any]:
    """The file's names after its imports, definitions and constants; nothing that an earlier call did is left in it."""
    module = ModuleType(source.module_name)
    module.__file__ = str(source.path)
    sys.modules[source.module_name] = module  # dataclasses and pickle look their module up
    for names, code in source.executed:
        try:
            exec(code, module.__dict__)
        except (Exception, SystemExit) as error:
            source.failed |= dict.fromkeys(names, said(error))
    return module.__dict__


def turns(source: Source, name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """A script's names before and after one turn of each loop that may change what has this name, inner loops first.

    Raises:
        RefusedError: there is no such loop, or the script stops before its end.
    """
    bodies = list(_up_to_loop(source.tree.body, name))
    if not bodies:
        raise RefusedError(f"{source.path}: no loop at the top of the file changes {name}", 1)
    yield from (_run(source, body) for body in bodies)


def _run(source: Source, body: list[ast.stmt]) -> tuple[dict[str, Any], dict[str, Any]]:
    before: dict[str, Any] = {}
    module = ModuleType(source.module_name)
    module.__dict__["__file__"] = str(source.path)
    module.__dict__["__snapshot__"] = lambda: before.update(_copies(module.__dict__))
    sys.modules[source.module_name] = module
    code = compile(ast.fix_missing_locations(ast.Module(body, [])), str(source.path), "exec")
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        raise RefusedError(f"{place(error, source.path)}: {said(error)}", 2) from None
    return before, module.__dict__


def _copies(names: dict[str, Any]) -> dict[str, Any]:
    """Copies of the arrays and tensors among them, and of what may hold some."""
    found = {}
    for name, value in names.items():
        if hasattr(value, "detach") and not isinstance(value, ModuleType):
            found[name] = value.detach().clone()
        elif not name.startswith("__") and not isinstance(value, ModuleType | FunctionType | type):
            with contextlib.suppress(Exception):  # an open file, say
                found[name] = copy.deepcopy(value)
    return found


def place(error: BaseException, path: Path) -> str:
    """The last line of the user's own file that the error came through; of a recursion without end, its call."""
    trace, lines = error.__traceback__, []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    line = lines[-1] if lines else 0
    if isinstance(error, RecursionError) and lines:
        line = max(lines, key=lines.count)
    return f"{path}:{line}" if line and path.suffix == ".py" else str(path)


def said(error: BaseException) -> str:
    """The error in one line, and not a long one."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # of a class of the file's own
        text = ""
    text = text if len(text) <= 160 else f"{text[:160]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _notebook(path: Path, text: str) -> str:
    """The code of a notebook's cells, without what is for IPython alone."""
    try:
        cells = json.loads(text)["cells"]
        codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{path}: is no notebook: {said(error)}") from None
    used = []
    for code in codes:
        if code.lstrip().startswith("%%"):
            continue  # another language, or a timing of what is of no interest
        lines = [line for line in code.splitlines() if not line.lstrip().startswith(("%", "!", "?"))]
        cell = "\n".join(lines)
        try:
            ast.parse(cell)
        except SyntaxError as error:
            raise RefusedError(
                f"{path}: cell {codes.index(code) + 1}, line {error.lineno}: syntax error: {error.msg}"
            ) from None
        used.append(cell)
    return "\n".join(used)


def _note_definitions(source: Source, node: ast.stmt) -> None:
    if isinstance(node, ast.FunctionDef):
        source.functions[node.name] = node
    elif isinstance(node, ast.ClassDef):
        source.classes[node.name] = node
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef):
                source.functions[f"{node.name}.{inner.name}"] = inner


def _note_statement(source: Source, node: ast.stmt, modules: dict[str, str]) -> None:
    """Note the statement as executed if it is an import, a definition or a constant, else its names as skipped."""
    names = sorted(_assigned(node))
    if _is_executed(node, modules):
        source.executed.append((names, compile(ast.Module([node], []), str(source.path), "exec")))
    else:
        source.skipped |= dict.fromkeys(names, node.lineno)


def _is_executed(node: ast.stmt, modules: dict[str, str]) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return True
        case ast.Assign(value=value) | ast.AugAssign(value=value):
            return _is_constant(value, modules)
        case ast.AnnAssign(value=value):
            return value is None or _is_constant(value, modules)
        case ast.Try():
            return all(_is_executed(inner, modules) or isinstance(inner, ast.Pass) for inner in _bodies(node))
        case ast.If(test=test):
            return "__name__" not in ast.unparse(test) and (
                _is_constant(test, modules)
                and all(_is_executed(inner, modules) or isinstance(inner, ast.Pass) for inner in _bodies(node))
            )
    return False


def _bodies(node: ast.stmt) -> Iterator[ast.stmt]:
    for name in ("body", "orelse", "finalbody"):
        yield from getattr(node, name, [])
    for handler in getattr(node, "handlers", []):
        yield from handler.body


def _is_constant(value: ast.expr, modules: dict[str, str]) -> bool:
    """Whether it is made of literals, names and what numpy, torch, math and the builtins compute of them."""
    for node in ast.walk(value):
        if isinstance(node, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
            return False
        if isinstance(node, ast.Call) and not _computes(node.func, modules):
            return False
    return True


def _computes(function: ast.expr, modules: dict[str, str]) -> bool:
    if isinstance(function, ast.Name):
        if function.id in modules:
            return modules[function.id] in _COMPUTING and not function.id.startswith(_READING)
        return function.id in _BUILTINS
    if isinstance(function, ast.Attribute):
        if function.attr.startswith(_READING):
            return False
        root: ast.expr = function
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name) and root.id in modules:
            return modules[root.id] in _COMPUTING
        return isinstance(root, ast.Name) or _is_constant(root, modules)  # a method of a constant
    return False


def _imported(tree: ast.Module) -> dict[str, str]:
    """The package that each imported name comes from."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[(alias.asname or alias.name).partition(".")[0]] = alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = (node.module or "").partition(".")[0]
    return found


def _assigned(node: ast.AST) -> set[str]:
    """The names that a statement defines or changes, in it or below it, but not inside of functions."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    names = {inner.id for inner in [node] if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)}
    if isinstance(node, ast.Assign | ast.AugAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            names |= {inner.id for inner in ast.walk(target) if isinstance(inner, ast.Name)}  # of W[0] = … too
    for child in ast.iter_child_nodes(node):
        names |= _assigned(child)
    return names


def _up_to_loop(body: Sequence[ast.stmt], name: str) -> Iterator[list[ast.stmt]]:
    """The statements up to each loop that may change what has the name, and one turn of that; inner loops first."""
    done: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.For | ast.While) and _mentions(node, name):
            first = ast.parse("[next(iter(()))]" if isinstance(node, ast.For) else "[0]", mode="eval").body
            if isinstance(node, ast.For):
                first.elts[0].args[0].args[0] = node.iter  # type: ignore[attr-defined]
            target = node.target if isinstance(node, ast.For) else ast.Name("_", ast.Store())
            whole = [*ast.parse("__snapshot__()").body, *node.body]
            for inner in (*_up_to_loop(node.body, name), whole):
                yield [*done, ast.For(target, first, inner, [])]
            if name in _assigned(node):
                return
        elif isinstance(node, ast.If) and _mentions(node, name):
            for inside in _up_to_loop(node.body, name):
                yield [*done, *inside]
        done.append(node)


def _mentions(node: ast.stmt, name: str) -> bool:
    return any(isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(node))
