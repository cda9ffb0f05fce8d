"""Formulas in the words of the person who wrote the derivation: their names, and products in their order."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence

from backhand.calculus.chain import Layer, layers
from backhand.derivations.layouts import Layout
from backhand.derivations.names import gradient, meaning
from backhand.derivations.question import Question
from backhand.derivations.steps import Case

LONGEST = 110  # of a line that is quoted
# ᵀ and ² are letters and digits of a word for `re`; here they end a name.
_TOKEN = r"∂L/∂(?:ŷ|h(?:_\d+)?)|d[Wb]_[IO\d]+|[Wbzδh]_[IO\d]+|ŷ|\bdx\b|\b[hxy](?:(?=[ᵀ²])|(?![\w′]))"
_FACTOR = rf"(?:reshape|J_f)?\((?:[^()]|\([^()]*\))*\)|(?:{_TOKEN})(?:\[[^\]]*\])?"
_PRODUCT = re.compile(
    rf"(?P<a>{_FACTOR})(?P<at>ᵀ?)(?P<a_when> \(of [^()]*\))? · (?P<b>{_FACTOR})(?P<bt>ᵀ?)(?P<b_when> \(of [^()]*\))?"
)
_SAMPLE = re.compile(rf"(?P<name>{_TOKEN})\[(?P<index>−?\d+)\]")


class Words:
    """What the steps of a derivation are called in a file.

    Args:
        question: the file and the function.
        case: the network.
        layout: how its arrays are stored.
        labels: by quantity (`dW_O`), what the person returns it as.
        steps: whether these are the names of weights that were stepped.
    """

    def __init__(
        self, question: Question, case: Case, layout: Layout, labels: Mapping[str, str], steps: bool = False
    ) -> None:
        self.question, self.case, self.layout, self.labels, self.steps = question, case, layout, dict(labels), steps
        self.names = self._names()

    def formula(self, text: str) -> str:
        """A formula in their names, with products as they stand where samples or weights lie the other way round."""
        left, equals, right = text.partition(" = ")
        turned = self._turned(left)
        right = _PRODUCT.sub(lambda found: self._product(found, turned), right)
        if self.layout.samples == "columns":
            right = _SAMPLE.sub(r"\g<name>[:, \g<index>]", right)
        return re.sub(_TOKEN, lambda found: self.names.get(found[0], found[0]), f"{left}{equals}{right}")

    def shapes(self, formula: str) -> str:
        """The shapes of what stands in a formula of ours, under their names."""
        said = []
        for token in dict.fromkeys(re.findall(_TOKEN, formula)):
            if (shape := self._shape(token)) is not None:
                said.append(f"{self.names.get(token, token)} {shape}")
        return ", ".join(said)

    def averaged(self, right: str, yours: str, right_ones: Sequence[str]) -> tuple[str, str]:
        """The formulas with the mean over the batch, where theirs take it in a gradient and their δ does not have it.

        Args:
            right: a gradient's right line, in our words, where δ has the mean.
            yours: the wrong one.
            right_ones: the quantities that are right, whose lines show where the mean is taken.
        """
        left, _, value = right.partition(" = ")
        layer = next((each for each in layers(self.case.depth) if left in (each.dW, each.db)), None)
        name = self.names.get(layer.symbol) if layer is not None else None
        if layer is None or name is None or value.startswith("1/B "):
            return right, yours
        shown = [each for each in (layer.dW, layer.db) if each in right_ones]
        if not any(self._takes_mean(each, name) for each in shown):
            return right, yours
        return _averaged(right), _averaged(yours)

    def _takes_mean(self, quantity: str, delta: str) -> bool:
        """Whether their line for a gradient divides what it makes of their δ by the number of samples."""
        node = self._assignment(quantity)
        terms = [node.value] if node is not None else []
        while sums := [
            term for term in terms if isinstance(term, ast.BinOp) and isinstance(term.op, ast.Add | ast.Sub)
        ]:
            terms = [each for each in terms if each not in sums] + [side for s in sums for side in (s.left, s.right)]
        return any(
            any(ast.unparse(each) == delta for each in ast.walk(term))
            and any(self._divides_by_samples(each) for each in ast.walk(term))
            for term in terms
        )

    def _divides_by_samples(self, node: ast.AST) -> bool:
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Div):
            return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "mean"
        match node.right:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                means = meaning(name, self.case.depth)
                return means is not None and means.kind == "samples"
            case ast.Call(func=ast.Name(id="len")) | ast.Subscript(value=ast.Attribute(attr="shape")):
                return True
        return False

    def line(self, quantity: str) -> str:
        """Their own line that computes the quantity, with its number; empty where it cannot be told."""
        node = self._assignment(quantity)
        if node is None:
            return ""
        text = " ".join(ast.unparse(node).split())
        path = self.question.source.path
        where = f"{path.name}:{node.lineno}: " if path.suffix == ".py" else ""
        return f"{where}{text if len(text) <= LONGEST else text[:LONGEST] + '…'}"

    def _assignment(self, quantity: str) -> ast.Assign | ast.AugAssign | None:
        """The last of their statements that computes the quantity."""
        token = self._token(quantity)
        spelled = {name for name in (self.names.get(token), self.labels.get(quantity)) if name}
        found = None
        for scope in self._scopes():
            for node in ast.walk(scope):
                if not isinstance(node, ast.Assign | ast.AugAssign) or _is_empty(node.value):
                    continue
                if any(map(spelled.__contains__, _targets(node))):
                    found = node
        return found

    def _scopes(self) -> list[ast.AST]:
        if self.question.statements is None and self.question.function is not None:
            return [self.question.function]
        called = {
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for statement in self.question.statements or ()
            for node in ast.walk(statement)
            if isinstance(node, ast.Call)
        }
        functions = self.question.source.functions
        return [
            node for name, node in functions.items() if name.rpartition(".")[2] in called and "init" not in name
        ] or [self.question.source.tree]

    def _names(self) -> dict[str, str]:
        """By our name, the one variable of theirs that means the same."""
        found: dict[str, set[str]] = {}
        for scope in self._scopes():
            written = {
                ast.unparse(node)
                for node in ast.walk(scope)
                if isinstance(node, ast.Name | ast.Attribute) and isinstance(getattr(node, "ctx", None), ast.Store)
            } | {node.arg for node in ast.walk(scope) if isinstance(node, ast.arg)}
            for name in written:
                if (token := self._meant(name, written)) is not None:
                    found.setdefault(token, set()).add(name)
        names = {token: next(iter(several)) for token, several in found.items() if len(several) == 1}
        for quantity, label in self.labels.items() if not self.steps else ():
            if label and re.fullmatch(r"[\w.']+|\w+\['\w+'\]", label):
                names.setdefault(self._token(quantity), label)
        return names

    def _meant(self, name: str, among: set[str]) -> str | None:
        depth = self.case.depth
        means = gradient(name, depth, among)
        if means is not None and means.gradient:
            kind = {"weights": "W", "biases": "b"}.get(means.kind, means.kind)
            if kind == "x":
                return "dx"
            layer = means.layer or (1 if depth == 1 else 0)
            if not layer:
                return None
            label = Layer(layer - 1, depth).label
            return f"δ_{label}" if kind == "z" else f"d{kind}_{label}"
        own = meaning(name, depth, among)
        if own is None:
            return None
        if own.kind in ("W", "b", "z") and own.layer:
            return f"{own.kind}_{Layer(own.layer - 1, depth).label}"
        if own.kind == "a" and own.layer:
            return Layer(own.layer - 1, depth).a
        return {"x": "x", "y": "y", "yhat": "ŷ"}.get(own.kind)

    def _token(self, quantity: str) -> str:
        return quantity.replace("delta_", "δ_")

    def _turned(self, token: str) -> bool:
        """Whether it is stored the other way round than ours."""
        if re.match(r"d?W_", token):
            return self.layout.weights == "(out, in)"
        return self.layout.samples in ("columns", "vector") and not re.match(r"d?b_", token)

    def _product(self, found: re.Match[str], turned: bool) -> str:
        factors = []
        for which in "ab":
            name, mark, when = found[which], found[f"{which}t"], found[f"{which}_when"] or ""
            inner = re.search(_TOKEN, name)
            flipped = self._turned(inner[0]) if inner else turned
            flipped = flipped and not name.startswith("J_f")  # of each sample, however samples lie
            factors.append(f"{name}{'ᵀ' if bool(mark) ^ flipped ^ turned else ''}{when}")
        return " · ".join(reversed(factors) if turned else factors)

    def _shape(self, token: str) -> tuple[int, ...] | None:
        """In their layout; a value has the shape of its gradient."""
        case, samples = self.case, self.layout.samples
        gradient = re.sub("^([Wb]_|x$)", r"d\1", token)
        gradient = re.sub("^z_", "δ_", re.sub("^h", "∂L/∂h", re.sub("^[yŷ]$", "∂L/∂ŷ", gradient)))
        line = next((each for each in case.chain.values() if each.left.replace("∇", "d") == gradient), None)
        if line is None:
            return None
        sizes = {"B": case.B, "D": case.x.shape[-1]} | {
            each.units: case.W(each).shape[-1] for each in layers(case.depth)
        }
        shape = tuple(sizes[letter] for letter in re.findall(r"\w+", line.shape))
        if len(shape) == 1:
            return {"(1, n)": (1, *shape), "(n, 1)": (*shape, 1)}.get(self.layout.bias, shape)
        if "B" in line.shape and samples in ("number", "vector"):
            return None if samples == "number" else shape[1:]
        return shape[::-1] if self._turned(token) else shape


def _averaged(formula: str) -> str:
    """With the factor 1/B, where a δ is in it."""
    left, _, value = formula.partition(" = ")
    if "δ" not in value and "∂L" not in value:
        return formula
    sign = "−" if value.startswith("−") else ""
    return f"{left} = {sign}1/B {value.removeprefix(sign)}"


def _targets(node: ast.Assign | ast.AugAssign) -> Iterator[str]:
    """What is assigned, the array if it is an entry of one, and the key if it is an entry of a dictionary."""
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        yield ast.unparse(target)
        while isinstance(target, ast.Subscript) and not isinstance(target.slice, ast.Constant):
            target = target.value
            yield ast.unparse(target)
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
            yield str(target.slice.value)


def _is_empty(value: ast.expr) -> bool:
    """Whether it only makes room for what is computed later: zeros, or an array without values."""
    match value:
        case ast.Constant(value=number):
            return number is None or number == 0
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name.removesuffix("_like") in ("zeros", "empty", "new_zeros", "new_empty")
        case ast.List(elts=values):
            return all(map(_is_empty, values))
        case ast.ListComp(elt=inner) | ast.BinOp(op=ast.Mult(), left=ast.List() as inner):
            return _is_empty(inner)
    return False
