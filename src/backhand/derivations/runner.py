"""Judges a target in a process of its own, which `target` starts with the names of a request and of a response.

Both are JSON. The caller sets the limits of time and memory; whatever the target does to this process, the caller has
one line to say.
"""

import contextlib
import json
import sys
import time
import traceback
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from backhand.config.imports import import_modules
from backhand.config.process import garbage_collection
from backhand.derivations.loading import EndedError, RefusedError, Source, fresh, place, read, said


def main() -> None:
    """Answer the request."""
    import torch

    torch.set_default_dtype(torch.float64)  # what the file makes itself is to fit what it is given
    torch.set_num_threads(1)
    asked, answered = map(Path, sys.argv[1:])
    request = json.loads(asked.read_text())
    try:
        with garbage_collection():
            response = judge(request)
    except (RefusedError, EndedError) as error:
        response = {"refused": str(error)}
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(line.filename).name}:{line.lineno}"
        response = {"refused": f"{request['file']}: the check itself stopped, at {where}: {said(error)}"}
    except BaseException as error:  # raised by the file itself
        response = {"refused": f"{place(error, Path(request['file']))}: {said(error)}"}
    answered.write_text(json.dumps(response))


def judge(request: dict[str, Any]) -> dict[str, Any]:
    """The answer as JSON takes it.

    Raises:
        RefusedError: there is nothing to judge, in one line.
    """
    import_modules(request["imports"])
    source = read(Path(request["file"]))
    sys.path.insert(0, str(source.path.resolve().parent))
    name = request["name"] or _only_candidate(source, request)
    names = fresh(source)
    kind = _kind(source, names, name, request)
    if kind == "script":
        from backhand.derivations.scripts import judge_script

        return judge_script(source, name, _settings(request)).plain()
    if kind == "operation":
        from backhand.derivations.singles import judge_single

        try:
            return judge_single(source, names, name, request["call"]).plain()
        except RefusedError as error:
            if not request["name"] and request["call"] is None and (weights := _stepped_weights(source, request)):
                raise RefusedError(f"{source.path}: a script: {weights}") from None
            hint = _network_hint(source, name, len(request["hidden"]) + 1)
            raise RefusedError(f"{error}{hint}", error.depth) from None
    if kind == "rule":
        from backhand.derivations.rules import judge_rule

        return judge_rule(source, names[name], _settings(request)).plain()
    if kind == "Function":
        from backhand.derivations.functions import judge_function

        return judge_function(source, name, _settings(request)).plain()
    from backhand.derivations.judging import Judge
    from backhand.derivations.question import Question
    from backhand.derivations.telling import tell

    settings = _settings(request)
    question = Question(source, name, request["call"], request["loss"], len(settings.hidden) + 1)
    network = Judge(question, settings)
    best, others = network.best()
    if not (best.right or best.simple) and best.layout.target.startswith("classes"):
        with contextlib.suppress(RefusedError):
            if (answer := _with_one_output(question, settings, best)) is not None:
                return answer.plain()
    return tell(network, best, others).plain()


def _with_one_output(question: Any, settings: Any, best: Any) -> Any:
    """The answer for one output, whose y is (N,) or (N, 1), where that fits better; else None.

    A loss of values that runs with class numbers alone, and not with rows, may be meant so.
    """
    from backhand.derivations.judging import SIZES, Judge
    from backhand.derivations.telling import tell

    network, criterion = settings.network, settings.criterion
    if settings.sizes is not None or network.output_activation == "softmax" or criterion.loss.target == "classes":
        return None
    sizes = (*SIZES[:2], *settings.hidden, 1)
    judge = Judge(question, replace(settings, sizes=sizes))
    found, others = judge.best()
    if found.order >= best.order:
        return None
    answer = tell(judge, found, others)
    answer.remarks.append(
        f"It was asked with one output, where y is (N, 1) or (N,): sizes=[{','.join(map(str, sizes))}]."
    )
    return answer


def _settings(request: dict[str, Any]) -> Any:
    import torch

    from backhand.calculus.backpropagation import Criterion, Network
    from backhand.derivations.judging import Settings

    g = request["hidden_activation"]
    weight = request["weight"]
    return Settings(
        Network(tuple(g) if isinstance(g, list) else g, request["output_activation"]),
        Criterion(request["criterion"], tuple((name, float(value)) for name, value in request["parameters"].items())),
        None if weight is None else torch.tensor(weight, dtype=torch.float64),
        tuple(request["hidden"]),
        None if request["sizes"] is None else tuple(request["sizes"]),
        request["seed"],
        time.monotonic() + request["time_limit"] / 3,
    )


def _only_candidate(source: Source, request: dict[str, Any]) -> str:
    """The name that is meant where none is given: the one function or class that looks like a backward pass.

    Raises:
        RefusedError: none does, or several do.
    """
    from backhand.derivations.names import meaning
    from backhand.derivations.question import BACKWARD

    if request["call"] is not None:
        return ""
    depth = len(request["hidden"]) + 1

    def kinds(name: str) -> set[str]:
        arguments = [argument.arg for argument in source.functions[name].args.args]
        return {found.kind for each in arguments if (found := meaning(each, depth, arguments))}

    functions = [name for name in source.functions if "." not in name]
    whole = {"W", "weights", "parameters", "unrolled", "cache", "yhat", "b"}
    networks = [name for name in functions if "y" in kinds(name) and kinds(name) & whole]
    asked = [
        name
        for name in source.classes
        if any(each.startswith(f"{name}.") and "y" in kinds(each) for each in source.functions)
    ]
    # Of several classes, one that takes a target and holds no weights is a loss, one operation of several.
    networks += [name for name in asked if len(source.classes) == 1 or _holds_weights(source, name, depth)]
    named = [name for name in networks if any(word in name.lower() for word in BACKWARD[:5])]
    words = [name for name in functions if any(word in name.lower() for word in BACKWARD[:5])]
    everything = functions + list(source.classes)
    unnamed = [name for name in functions if _multiplies(source, name, depth)]
    for found in (named, networks, unnamed, words, everything):
        if len(found) == 1:
            return found[0]
        if found:
            break
    if not found:
        weights = _stepped_weights(source, request)
        if not weights:
            raise RefusedError(f"{source.path}: has no function, no class and no loop that changes a weight")
        raise RefusedError(f"{source.path}: has no function or class; {weights}")
    raise RefusedError(f"{source.path}: which is meant? target={source.path}:NAME with one of {', '.join(found)}")


def _kind(source: Source, names: dict[str, Any], name: str, request: dict[str, Any]) -> str:
    """What is asked about: a network, a torch Function of one, a single operation, a rule or a script."""
    import inspect

    from backhand.derivations.names import meaning
    from backhand.derivations.question import Question
    from backhand.derivations.singles import is_operation
    from backhand.derivations.templates import class_template

    depth = len(request["hidden"]) + 1
    given = {f"{kind}{layer}" for layer in range(1, depth + 1) for kind in "Wb"} | {"y"}
    if request["call"] is not None:
        question = Question(source, "", request["call"], None, depth)
        if not question.tokens & given and question.tokens & ({"B", "D", "H", "C"} - names.keys()):
            classes = [name for name in source.classes if name in question.tokens]
            example = f", such as {class_template(question, classes[0])}" if classes else ""
            raise RefusedError(f"call={request['call']}: a network's call uses its weights, W1, W2, …{example}")
        return "network" if question.tokens & given else "operation"
    base, _, method = name.partition(".")
    target = names.get(base)
    if (target is None and base in source.skipped) or (target is not None and not callable(target)):
        return "script"
    if target is None:
        if base in source.failed:
            raise RefusedError(f"{source.path}: {name}: {source.failed[base]}")
        own = [each for each in (*source.functions, *source.classes) if not each.startswith("_")]
        close = get_close_matches(name, own, n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]}?)" if close else ""
        weights = stepped(source, depth)
        changed = f"; its loop changes {', '.join(weights)}" if weights else ""
        it_has = ", ".join(own) or "no function or class"
        raise RefusedError(f"{source.path}: has no {name}{hint}; it has {it_has}{changed}")
    if method and not hasattr(target, method):
        raise RefusedError(f"{source.path}: {base} has no method {method}")
    if inspect.isclass(target):
        is_function = any(
            f"{each.__module__}.{each.__name__}" == "torch.autograd.function.Function" for each in target.__mro__
        )
        try:
            arguments = list(
                inspect.signature(vars(target).get("forward" if is_function else "__init__", target)).parameters
            )
        except (TypeError, ValueError, AttributeError):
            arguments = []
        layers = {
            found.layer
            for each in arguments
            if (found := meaning(each, depth, arguments)) and found.kind == "W" and found.layer
        }
        if is_function:
            return "Function" if len(layers) == depth > 1 else "operation"
        return "network" if base in source.classes and _holds_weights(source, base, depth) else "operation"
    try:
        arguments = list(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        arguments = []
    if arguments[:1] == ["delta"] and len(arguments) == 4:
        return "rule"
    if is_operation(source, target, base):
        return "operation"
    kinds = {found.kind for each in arguments if (found := meaning(each, depth, arguments))}
    many = any(parameter.kind.name == "VAR_POSITIONAL" for parameter in _parameters(target))
    network = many or kinds & {"y", "W", "weights", "parameters", "unrolled", "cache", "yhat"} or {"x", "b"} <= kinds
    is_network = (network and len(arguments) > 1) or many or _multiplies(source, base, depth)
    return "network" if is_network else "operation"


def _multiplies(source: Source, name: str, depth: int) -> bool:
    """Whether a function has the products of a network's two passes, with as many arguments as that has arrays.

    So a network is known whose arguments have names in another language.
    """
    import ast

    from backhand.derivations.question import is_product

    definition = source.functions.get(name)
    if definition is None:
        return False
    arguments = [each.arg for each in definition.args.args]
    required = arguments[: len(arguments) - len(definition.args.defaults)]
    products = [node for node in ast.walk(definition) if is_product(node)]
    used = {inner.id for node in products for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    # One product a layer on the way up, one for each weight's gradient, one for each δ but the last.
    return len(products) >= 3 * depth - 1 and len(required) >= depth + 2 and len(used & {*required}) > depth


def stepped(source: Source, depth: int) -> list[str]:
    """The weights that a script's loops step, by their names; where these do not tell, all that the loops change."""
    from backhand.derivations.names import meaning

    names = source.stepped()
    found = [name for name in names if (known := meaning(name, depth, names)) and known.kind in ("W", "weights")]
    return found or names


def _stepped_weights(source: Source, request: dict[str, Any]) -> str:
    """How to ask about a script by the weights that its loop changes; empty where it changes nothing."""
    first, *others = stepped(source, len(request["hidden"]) + 1) or [""]
    more = f" (or {', '.join(others)})" if others else ""
    return f"name a weight that its loop changes: target={source.path}:{first}{more}" if first else ""


def _network_hint(source: Source, name: str, depth: int) -> str:
    """How to ask about a class that was taken for a single operation and has products with several of its own arrays.

    A layer's forward pass has a product with one.
    """
    import ast

    from backhand.derivations.question import Question, is_product
    from backhand.derivations.templates import class_template

    base, _, method = name.partition(".")
    forward = source.functions.get(f"{base}.forward")
    own = {
        ast.unparse(inner)
        for node in (ast.walk(forward) if forward else ())
        if is_product(node)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute) and ast.unparse(inner.value) == "self"
    }
    if len(own) < 2:
        return ""
    question = Question(source, "", None, None, depth)
    return f"; if {base} is a network, say how it is used: {class_template(question, base, method)}"


def _parameters(target: Any) -> list[Any]:
    import inspect

    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return []


def _holds_weights(source: Source, name: str, depth: int) -> bool:
    """Whether a class has weights of every layer, or weights and a target: a network, and no layer or loss."""
    import ast

    from backhand.derivations.names import meaning

    spelled: set[str] = set()
    for inner in ast.walk(source.classes[name]):
        if isinstance(inner, ast.Attribute) and inner.attr not in ("T", "t"):  # a transpose, and no target
            spelled.add(inner.attr)
        elif isinstance(inner, ast.arg):
            spelled.add(inner.arg)
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            spelled.add(inner.value)
    found = [means for each in spelled if (means := meaning(each, depth, spelled))]
    layers = {means.layer for means in found if means.kind == "W" and means.layer}
    kinds = {means.kind for means in found}
    if "y" in kinds and (1 in layers or kinds & {"weights", "unrolled", "hiddens"} or "layers" in spelled):
        return True
    return len(layers) >= depth > 1
