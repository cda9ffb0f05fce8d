"""Mutation tests of the verification: gradcheck must fail for every single change to the code of a derivative.

The mutants are made from the source: in each function or lambda that computes a derivative, one operator is replaced,
one number changed or one minus sign dropped at a time.
"""

import ast
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from backhand.calculus import activations, backpropagation, losses
from backhand.checking.matrix import Combination, combinations, verify

REPLACED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.MatMult: ast.Mult}
REVERSED = {ast.Gt: ast.Lt, ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
# What computes derivatives, in each file: fields of the tables' entries, and functions.
DERIVATIVES = {
    activations: {
        "derivative", "product", "delta", "_gaussian", "_gelu_tanh", "_silu_derivative", "_gelu_derivative",
        "_gelu_tanh_derivative", "_mish_derivative",
    },
    losses: {
        "derivative", "matched_delta", "_rows", "_cross_entropy_derivative", "_cross_entropy_delta",
        "_binary_cross_entropy_derivative", "_binary_cross_entropy_delta",
    },
    backpropagation: {
        "output_delta", "loss_delta", "hidden_delta", "weight_gradient", "bias_gradient", "input_gradient", "backward",
    },
}  # fmt: skip
# Mutants that change no gradient: bounds against division by zero that no ordinary number reaches, how shapes and
# arguments are picked apart, and what only the run axis or a caller of its own would see.
NEUTRAL = {
    "clamp(min=1e-12)": "bounds a division",
    "if needs_grad[": "what is not computed: work saved, not a number",
    "any(needs_grad[": "where the recursion stops: work saved, not a number",
    "NARROW": "which of two equal products is taken, of a layer wider than any of these: test_samples.py has one",
    "(delta.mT @ h)": "transposed twice: changes no number",
    "h).mT": "transposed twice: changes no number",
}


def sources() -> Iterator[tuple[object, str, ast.AST]]:
    """Each place that computes a derivative: its module, a name, and its syntax tree within the module's."""
    for module, names in DERIVATIVES.items():
        tree = ast.parse(inspect.getsource(module))
        entry = ""
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                child.parent = node
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name in names:
                yield module, node.name, node
            if isinstance(node, ast.keyword) and node.arg in names and isinstance(node.value, ast.Lambda):
                owner = node.parent.parent
                if isinstance(owner, ast.Dict):
                    entry = owner.keys[owner.values.index(node.parent)].value
                    yield module, f"{entry}.{node.arg}", node.value


def mutants() -> list[tuple[object, str, str, str]]:
    """(module, name, what was changed, the module's source with that change)."""
    found = []
    for module, name, place in sources():
        root = place
        while hasattr(root, "parent"):
            root = root.parent
        body = place.body if isinstance(place, ast.Lambda) else place
        for node in ast.walk(body):
            line = ast.unparse(node)
            for undo in change(node):
                statement = node
                while hasattr(statement, "parent") and not isinstance(statement, ast.stmt):
                    statement = statement.parent
                text = ast.unparse(statement if isinstance(place, ast.FunctionDef) else body)
                if not any(neutral in text for neutral in NEUTRAL):
                    found.append((module, name, f"{line} → {ast.unparse(node)}", ast.unparse(root)))
                undo()
    return found


def change(node: ast.AST) -> Iterator[object]:
    """Change the node in place, once for each way there is; calling what is yielded takes the change back."""

    def put(attribute: str, value: object) -> object:
        old = getattr(node, attribute)
        setattr(node, attribute, value)
        return lambda: setattr(node, attribute, old)

    if isinstance(node, ast.BinOp) and type(node.op) in REPLACED:
        yield put("op", REPLACED[type(node.op)]())
    if isinstance(node, ast.Compare) and type(node.ops[0]) in REVERSED:
        yield put("ops", [REVERSED[type(node.ops[0])]()])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield put("op", ast.UAdd())
    if isinstance(node, ast.Attribute) and node.attr == "mT":
        yield put("attr", "real")
    scale = isinstance(getattr(node, "parent", None), ast.BinOp | ast.Call)
    if isinstance(node, ast.Constant) and type(node.value) is float and scale:
        yield put("value", node.value * 1.5 + 0.25)
    if isinstance(node, ast.Constant) and type(node.value) is int and isinstance(node.parent, ast.BinOp):
        yield put("value", node.value + 1)


MUTANTS = mutants()
ALL = combinations()


def combinations_of(name: str) -> list[Combination]:
    """The combinations whose gradients a function affects: those of its table entry, else a few of each kind."""
    entries = (*activations.ACTIVATIONS, *losses.LOSSES)
    entry = max((each for each in entries if each in name), key=len, default="")
    affected = [each for each in ALL if entry in (each.hidden, each.output, each.loss)]
    kinds: dict[tuple[object, ...], Combination] = {}
    for each in affected or ALL:
        kinds.setdefault(("hidden", each.hidden, each.layers), each)
        kinds.setdefault(("output", each.output, each.variant), each)
        kinds.setdefault(("shape", each.layers, each.runs, each.variant), each)
        kinds.setdefault(("runs", each.output, each.runs), each)
    return sorted(kinds.values(), key=lambda each: not each.parameters)


@contextmanager
def installed(module: ModuleType, source: str) -> Iterator[None]:
    """Replace the derivatives of a module by those of another source; its values are unchanged."""
    broken = dict(vars(module))
    exec(compile(source, str(module.__file__), "exec"), broken)
    undo: list[tuple[object, str, object]] = []

    def put(owner: object, attribute: str, value: object) -> None:
        undo.append((owner, attribute, getattr(owner, attribute)))
        (type.__setattr__ if isinstance(owner, type) else object.__setattr__)(owner, attribute, value)

    if module is backpropagation:
        for name in DERIVATIVES[module]:
            put(module, name, broken[name])
    else:
        table, fields = ("ACTIVATIONS", ("derivative", "product")) if module is activations else ("LOSSES", LOSS_FIELDS)
        for name, entry in getattr(module, table).items():
            for field in fields:
                if hasattr(entry, field):
                    put(entry, field, getattr(broken[table][name], field))
        for name in ("Activation", "RowActivation") if module is activations else ():
            put(getattr(module, name), "delta", broken[name].delta)
    try:
        yield
    finally:
        for owner, attribute, value in reversed(undo):
            (type.__setattr__ if isinstance(owner, type) else object.__setattr__)(owner, attribute, value)


LOSS_FIELDS = ("derivative", "matched_delta")


def test_every_formula_has_mutants():
    names = {name for _, name, _, _ in MUTANTS}
    assert len(MUTANTS) >= 40
    for table in (activations.ACTIVATIONS, losses.LOSSES):
        for entry in table:
            formula = table[entry].text_derivative
            assert formula in ("0", "1") or any(entry in name for name in names), entry
    assert {"hidden_delta", "weight_gradient", "input_gradient"} <= names


FIRST_OF_A_FORMULA = {name: changed for _, name, changed, _ in reversed(MUTANTS)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "changed", "source"),
    [
        pytest.param(
            module, name, changed, source, id=f"{name}: {changed}",
            marks=[pytest.mark.smoke] * (FIRST_OF_A_FORMULA[name] == changed),
        )
        for module, name, changed, source in MUTANTS
    ],
)  # fmt: skip
def test_gradcheck_notices_every_mutant(module, name, changed, source):
    with installed(module, source):
        for modes in (("reverse",), ("forms", "second", "samples")):  # the first one notices nearly all
            for combination in combinations_of(name):
                if verify(combination, modes=modes).failures:
                    return
    raise AssertionError(f"no check failed for {changed} in {name}")
