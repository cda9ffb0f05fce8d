"""Evaluates printed formulas, as text or in LaTeX, so that they can be compared with the code."""

import math
import re

import torch

FUNCTIONS = {
    "log": torch.log, "tanh": torch.tanh, "sign": torch.sign, "cosh": torch.cosh, "σ": torch.sigmoid,
    "Φ": torch.special.ndtr, "φ": lambda z: (-z * z / 2).exp() / math.sqrt(2 * math.pi), "√": torch.sqrt,
    "diag": lambda column: torch.diag(column[:, 0]), "Σ": torch.sum,
    "Σ_c": lambda t: t.sum(-1, keepdim=True), "Σ_B": lambda t: t.sum(-2),
}  # fmt: skip
TOKEN = re.compile(
    r"∂L/∂(?:ŷ|h\w*)|[gf]′\(z_\w+?\)|J_f\(z_\w+?\)|Σ_[cB]|huber_delta|where|else|log|tanh|cosh|sign|diag|max|min"
    r"|[A-Za-zδ](?:_[A-Z\d]+)|u′|\d+\.?\d*|[²³ᵀ√]|\S"
)
POWERS = {"²": 2, "³": 3}


def evaluate(formula, names):
    """The value of a formula; its definitions after `with` are added to `names`."""
    formula, _, definitions = formula.partition(", Φ the")[0].partition(", with ")
    for definition in filter(None, re.split(r" and (?=\w = )", definitions)):
        name, value = definition.split(" = ")
        if value.endswith("…"):
            assert f"{float(names[name]):.10f}".startswith(value[:-1])
        else:
            names[name] = evaluate(value, names)
    reader = Reader(TOKEN.findall(formula), names)
    value = reader.expression()
    assert not reader.tokens, reader.tokens
    return value


class Reader:
    """A parser by recursive descent that computes as it goes; factors side by side are multiplied."""

    def __init__(self, tokens, names):
        self.tokens, self.names = tokens, names

    def next(self, *tokens):
        if self.tokens and (not tokens or self.tokens[0] in tokens):
            return self.tokens.pop(0)
        return None

    def expect(self, token):
        assert self.next(token), (token, self.tokens)

    def expression(self):
        value = self.sum()
        if self.next("where"):
            condition = self.condition()
            self.expect(",")
            self.expect("else")
            return torch.where(condition, value, self.expression())
        return value

    def condition(self):
        sides, signs = [self.sum()], []
        while sign := self.next("<", ">", "≤"):
            signs.append(sign)
            sides.append(self.sum())
        compared = {"<": torch.lt, ">": torch.gt, "≤": torch.le}
        found = [
            compared[sign](*map(torch.as_tensor, pair)) for sign, *pair in zip(signs, sides, sides[1:], strict=False)
        ]
        return torch.stack(torch.broadcast_tensors(*found)).all(0)

    def sum(self):
        value = self.product()
        while sign := self.next("+", "−"):
            value = value + self.product() if sign == "+" else value - self.product()
        return value

    def product(self):
        if self.next("−"):
            return -self.product()
        value = self.power()
        while self.tokens and self.tokens[0] not in ("+", "−", ")", "]", "|", ",", "where", "<", ">", "≤", "="):
            if self.next("/"):
                value = value / self.power()
            elif self.next("·"):
                right = self.power()
                is_row = right.dim() > value.dim()  # a row times its Jacobian
                value = (value.unsqueeze(-2) @ right).squeeze(-2) if is_row else value @ right
            else:
                self.next("⊙")
                value = value * self.power()
        return value

    def power(self):
        value = self.atom()
        while token := self.next("^", "²", "³", "ᵀ"):
            value = value.mT if token == "ᵀ" else value ** (POWERS.get(token) or self.atom())
        return value

    def atom(self):
        token = self.next()
        if token == "(":
            value = self.expression()
            self.expect(")")
            return value
        if token == "|":
            value = self.sum().abs()
            self.expect("|")
            return value
        if token == "[":
            value = self.condition()
            self.expect("]")
            return value.double()
        if token in ("max", "min"):
            self.expect("(")
            value = self.sum()
            self.expect(",")
            other = self.sum()
            self.expect(")")
            return (torch.maximum if token == "max" else torch.minimum)(*map(torch.as_tensor, (value, other)))
        if token.startswith("Σ"):
            return FUNCTIONS[token](self.product())
        if token in FUNCTIONS:
            exponent = 1
            if power := self.next("²", "^"):
                exponent = POWERS.get(power) or self.atom()
            return FUNCTIONS[token](torch.as_tensor(self.power())) ** exponent
        if token == "e":
            return torch.tensor(math.e, dtype=torch.float64)
        if token == "−":
            return -self.atom()
        if token == "π":
            return torch.tensor(math.pi, dtype=torch.float64)
        return self.names[token] if token in self.names else torch.tensor(float(token), dtype=torch.float64)


SIGNS = {
    r"\hat y": "ŷ", r"\odot": "⊙", r"\cdot": "·", r"\sum": "Σ", r"\sigma": "σ", r"\Phi": "Φ", r"\varphi": "φ",
    r"\lambda": "λ", r"\alpha": "α", r"\delta_": "δ_", r"\delta": "huber_delta", r"\pi": "π",
    r"\left": "", r"\right": "", r"\le": "≤", r"\log": "log", r"\tanh": "tanh", r"\max": "max", r"\min": "min",
    r"\top": "ᵀ", r"\,": " ", "-": "−", "'": "′", "^ᵀ": "ᵀ",
}  # fmt: skip


def from_latex(formula):
    """A LaTeX formula as plain text."""
    formula = formula.replace(r" \, ", " · ").replace(r"\tfrac", r"\frac")
    formula = re.sub(r"\\operatorname\{(\w+)\}", r"\1", formula)
    formula = re.sub(r"\\frac\{\\partial L\}\{\\partial (\\hat y|h(?:_\{\d+\})?)\}", r"∂L/∂\1", formula)
    formula = re.sub(r"_\{(\w+)\}", r"_\1", formula)
    formula = re.sub(r", \\quad (\w) =", r", with \1 =", formula)
    formula = re.sub(
        r"\\begin\{cases\} (.*?) & (.*?) \\\\ (.*?) & .*?\\end\{cases\}", r"(\1 where \2, else \3)", formula
    )
    for sign, text in SIGNS.items():
        formula = formula.replace(sign, text)
    while "{" in formula:
        before = formula
        formula = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1) / (\2))", formula)
        formula = re.sub(r"\\sqrt\{([^{}]*)\}", r"√(\1)", formula)
        formula = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", formula)
        formula = re.sub(r"(?<![\w}^])\{([^{}\\]*)\}(?!\{)", r"\1", formula)
        assert formula != before, formula
    assert "\\" not in formula, formula
    return formula
