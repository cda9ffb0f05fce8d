"""The `call=` line to adapt that a refusal suggests, with what is known of the file in its place."""

import ast
import re
from collections.abc import Sequence

from backhand.derivations.leaves import returned
from backhand.derivations.names import meaning, size_meaning
from backhand.derivations.question import Question


def template(question: Question, name: str, spelled: Sequence[str]) -> str:
    """A `call=` line to adapt, with what is known of the arguments in its place."""
    if name.partition(".")[0] in question.source.classes:
        return class_template(question, *name.split("."))
    function = question.source.functions.get(name)
    if function is not None and function.args.vararg:
        spelled = ["x", "y", *(f"{kind}{layer}" for layer in range(1, question.depth + 1) for kind in "Wb")]
    arguments: list[str] = []
    for each in spelled:
        known = meaning(each, question.depth, spelled)
        told = "…"
        if known and known.kind in ("W", "b", "x", "y"):
            told = f"{known.kind}{known.layer or ''}"
        arguments.append("…" if told in arguments else told)
    both = [f"{kind}{layer}" for layer in range(1, question.depth + 1) for kind in "Wb"]
    usual = next((each for each in (["x", "y", *both], ["x", "y", *both[::2]]) if len(each) == len(spelled)), None)
    if usual and {*arguments} == {"…"}:
        arguments = usual
    before = _forward_call(question, name, spelled, arguments) if "…" in arguments else ""
    arguments += _keywords(question, function)
    return f"call='{before}{name}({', '.join(arguments)})'"


def _keywords(question: Question, function: ast.FunctionDef | None) -> list[str]:
    """The arguments that can only be given by their name, and are known or needed."""
    if function is None:
        return []
    names = [each.arg for each in function.args.kwonlyargs]
    given = []
    for each, default in zip(names, function.args.kw_defaults, strict=True):
        known = meaning(each, question.depth, names)
        told = {"penalty": "0.1", "rate": "0.1"}.get(known.kind, "…") if known else "…"
        if known and known.kind in ("W", "b", "x", "y"):
            told = f"{known.kind}{known.layer or ''}"
        if told != "…" or default is None:
            given.append(f"{each}={told}")
    return given


def _forward_call(question: Question, name: str, spelled: Sequence[str], arguments: list[str]) -> str:
    """The call of the forward pass that gives a backward pass its ŷ and its cache, which are filled in.

    Empty where the file has none that takes x and all parameters and returns one or both of them.
    """
    depth = question.depth
    kinds = [found.kind if (found := meaning(each, depth, spelled)) else "" for each in spelled]
    wanted = [place for place, kind in enumerate(kinds) if kind in ("yhat", "cache") and arguments[place] == "…"]
    held = ", ".join(f"{kind}{layer}={kind}{layer}" for layer in range(1, depth + 1) for kind in "Wb")
    for forward, definition in question.source.functions.items():
        own = [each.arg for each in definition.args.args]
        taken = [found.kind if (found := meaning(each, depth, own)) else "" for each in own]
        given = returned(definition)
        parts = given.elts if isinstance(given, ast.Tuple) else [given]
        if forward == name or "." in forward or sorted(taken) != ["parameters", "x"] or len(parts) != len(wanted):
            continue
        names = {"yhat": "A", "cache": "c"}
        outputs = [found.kind if (found := meaning(ast.unparse(each), depth)) else "" for each in parts if each]
        if not wanted or sorted(outputs) != sorted(kinds[place] for place in wanted):
            continue
        for place in wanted:
            arguments[place] = names[kinds[place]]
        filled = ", ".join({"x": "x", "parameters": f"dict({held})"}[kind] for kind in taken)
        for place, kind in enumerate(kinds):
            if kind == "parameters" and arguments[place] == "…":
                arguments[place] = f"dict({held})"
        return f"{','.join(names[each] for each in outputs)}={forward}({filled}); "
    return ""


def class_template(question: Question, name: str, method: str = "") -> str:
    """A `call=` line to adapt for a network's class: `n=Net(D,H,C); n.W1,n.W2=W1,W2; n.backward(x,y); vars(n)`."""
    functions, depth = question.source.functions, question.depth
    constructor = functions.get(f"{name}.__init__")
    method = method or question.best_method(name)
    used = functions.get(f"{name}.{method}")
    made = _filled(constructor, depth, True)
    handed = [each for each in made if re.fullmatch(r"[Wb]\d", each)]
    steps = [f"n={name}({','.join(made)})"]
    if not handed:
        steps.append("{}={}".format(*map(",".join, zip(*_places(constructor, depth), strict=True))))
    arguments = _filled(used, depth, False)
    if arguments.count("…") == 1 and "y" not in arguments:
        arguments[arguments.index("…")] = "y"
    if used is None:
        return f"call='{'; '.join([*steps, 'n.…(x,y)', 'vars(n)'])}'"
    if "x" not in arguments and f"{name}.forward" in functions and method != "forward":
        steps.append("n.forward(x)")
    steps.append(f"n.{method}({','.join(arguments)})")
    nodes = list(ast.walk(used))
    if not any(isinstance(node, ast.Return) and node.value for node in nodes):
        steps.append("vars(n)")
    elif any(isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) for node in nodes):
        steps[-1] = f"({steps[-1]},vars(n))"
    return f"call='{'; '.join(steps)}'"


def _filled(function: ast.FunctionDef | None, depth: int, of_class: bool) -> list[str]:
    """The arguments without a default, with what is known of them in their place."""
    spelled = [each.arg for each in function.args.args][1:] if function else []
    required = spelled[: len(spelled) - len(function.args.defaults)] if function else []
    known = {"inputs": "D", "outputs": "C", "samples": "B", "rate": "0.1", "penalty": "0", "epochs": "1"}
    hidden = ["H"] if depth == 2 else [f"H{layer}" for layer in range(1, depth)]
    known |= {"sizes": f"[{','.join(['D', *hidden, 'C'])}]"} | ({"hiddens": "H"} if depth == 2 else {})
    if of_class and not any((found := meaning(each, depth, spelled)) and found.kind == "y" for each in spelled):
        known |= {"x": "D", "yhat": "C"}  # Net(input, hidden, output)
    filled: list[str] = []
    for each in required:
        found = (size_meaning(each) if of_class else None) or meaning(each, depth, spelled)
        told = known.get(found.kind, "…") if found else "…"
        if of_class and found and found.kind == "a":
            told = hidden[(found.layer or 1) - 1]
        if found and found.kind in ("W", "b", "x", "y") and told == "…":
            told = f"{found.kind}{found.layer or ''}"
        filled.append("…" if told in filled else told)
    return filled


def _places(constructor: ast.FunctionDef | None, depth: int) -> list[tuple[str, str]]:
    """Where an object keeps each weight and bias, as its constructor says, and ours: (n.W1, W1)."""
    found: dict[str, str] = {}
    for node in ast.walk(constructor) if constructor else ():
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            spelled, last = ast.unparse(node), ""
            match node:
                case ast.Attribute(attr=last) | ast.Subscript(slice=ast.Constant(value=str(last))):
                    pass
            means = meaning(last, depth) if spelled.startswith("self.") else None
            if means and means.kind in ("W", "b") and means.layer:
                found.setdefault(f"{means.kind}{means.layer}", f"n{spelled.removeprefix('self')}".replace("'", '"'))
    ours = [f"{kind}{layer}" for layer in range(1, depth + 1) for kind in "Wb"]
    has_biases = not found or any(each.startswith("b") for each in found)
    return [(found.get(each, "n.…"), each) for each in ours if has_biases or each.startswith("W")]
