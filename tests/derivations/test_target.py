"""A file that somebody brings: what is said of it, whatever is in it."""

import io
import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from tests.derivations.asked import asked

from backhand.checking import gradcheck
from backhand.derivations.layouts import BIASES, Draw, Layout

ROOT = Path(__file__).resolve().parents[2]

RIGHT = """
import numpy as np

def backward(x, y, W_I, b_I, W_O, b_O):
    h = np.tanh(x @ W_I + b_I)
    e = np.exp(h @ W_O + b_O)
    delta_O = (e / e.sum(1, keepdims=True) - y) / len(x)
    delta_I = delta_O @ W_O.T * (1 - h * h)
    return {"dW_I": x.T @ delta_I, "db_I": delta_I.sum(0), "dW_O": h.T @ delta_O, "db_O": delta_O.sum(0)}
"""


@pytest.fixture
def check(tmp_path, capsys):
    """Check a file of this content; returns the exit status and what was printed."""

    def run(text: str, *arguments: str, name: str = "backward") -> tuple[int, str]:
        path = tmp_path / "mine.py"
        path.write_text(textwrap.dedent(text))
        return asked(capsys, f"target={path}" + (f":{name}" if name else ""), *arguments)

    return run


def in_a_process(capsys, *arguments: str) -> tuple[int, str]:
    status = gradcheck.gradcheck(list(arguments))
    printed = capsys.readouterr()
    return status, " ".join((printed.out + printed.err).split())


def test_a_right_derivation_is_right(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(RIGHT)
    status, said = in_a_process(capsys, f"target={tmp_path / 'mine.py'}:backward")
    assert status == 0
    assert "Right, for L = 1/B Σ the loss of each sample." in said
    assert "a sample a row, weights (in, out), biases (n,); numpy" in said
    assert "Read another way" not in said


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (" * (1 - h * h)", "", "dW_I and db_I are wrong because δ_I is: the factor g′(z_I) is missing"),
        ("x.T @ delta_I", "delta_I.T @ x", "dW_I is wrong: the product is transposed"),
        ("delta_O.sum(0)", "delta_O", "db_O is wrong: δ is not summed over the batch."),
        ("delta_O.sum(0)", "np.sum(delta_O)", "np.sum without an axis"),
        # What stops on ordinary sizes is tried on square ones.
        ("W_O.T", "W_O", "W_O is not transposed"),
    ],
)
def test_a_wrong_line_is_named(check, old, new, sentence):
    assert RIGHT.count(old) == 1
    status, said = check(RIGHT.replace(old, new))
    assert status == 1
    assert sentence in said
    assert "right: " in said
    assert "yours: " in said


def test_a_narrow_terminal_shows_the_whole_verdict(check, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    status, said = check(RIGHT.replace("delta_O.sum(0)", "np.sum(delta_O)"))
    assert status == 1
    assert "…" not in said


def test_the_line_that_is_quoted_computes_and_does_not_make_zeros(check):
    loop = "for d in delta_I:\n        db_I += 2 * d"
    for zeros in ("np.zeros_like(b_I)", "np.zeros(len(b_I))"):
        text = RIGHT.replace("    return {", f"    db_I = {zeros}\n    {loop}\n    return {{").replace(
            '"db_I": delta_I.sum(0)', '"db_I": db_I'
        )
        assert "mine.py:11: db_I += 2 * d" in check(text)[1]
        text = text.replace("for d in delta_I", "for j, d in enumerate(delta_I.T)").replace(
            "+= 2 * d", "[j] = 2 * d.sum()"
        )
        assert "mine.py:11: db_I[j] = 2 * d.sum()" in check(text)[1]


@pytest.mark.parametrize("first", [0, 1])
def test_a_file_with_more_layers_than_are_named_is_asked_for_their_sizes(check, first):
    text = "def backward(x, y, W1, b1, W2, b2, W3, b3): pass"
    for place in (1, 2, 3):
        text = text.replace(f"W{place}", f"W{place - 1 + first}").replace(f"b{place}", f"b{place - 1 + first}")
    wanted = "has 3 layers of weights, and the network that is named has {}; give the sizes of its hidden layers"
    assert f"{wanted.format(2)}: model.hidden=[H1,H2]" in check(text)[1]
    assert wanted.format(1) in check(text, "model.hidden=[]")[1]
    assert "asks for q" in check(text.replace("y, ", "y, q, "), "model.hidden=[6,5]")[1]


def test_the_scale_of_a_loss_is_a_convention_where_no_loss_is_returned(check):
    without = RIGHT.replace("/ len(x)", "* 2")
    assert check(without)[0] == 0
    assert "Right, for L = 2 Σ the loss of each sample." in check(without)[1]
    with_loss = without.replace(
        "    return {", "    loss = -(y * np.log(e / e.sum(1, keepdims=True))).sum()\n    return loss, {"
    )
    status, said = check(with_loss)
    assert status == 1
    assert "there is a factor 2 too many" in said
    assert check(with_loss.replace("* 2", "* 1"))[0] == 0
    # One gradient alone, or a factor that no loss has, is a mistake all the same.
    assert check(RIGHT.replace("x.T @ delta_I", "2 * x.T @ delta_I"))[0] == 1
    assert check(RIGHT.replace("/ len(x)", "/ len(x) ** 2"))[0] == 1


def test_a_loss_can_be_named(check):
    text = RIGHT + "\ndef cost(x, y, W_I, b_I, W_O, b_O):\n    e = np.exp(np.tanh(x @ W_I + b_I) @ W_O + b_O)\n"
    text += "    return -np.sum(y * np.log(e / e.sum(1, keepdims=True)))\n"
    assert check(text)[0] == 0
    status, said = check(text, "loss=cost")
    assert status == 1
    assert "the mean over the batch" in said
    assert check(text, "loss=cost(x, y, W1, b1, W2, b2) / len(x)", "call=backward(x, y, W1, b1, W2, b2)")[0] == 0
    assert "has no function of that name" in check(text, "loss=price")[1]


OWN_LOSS = """
import numpy as np

def cost(x, y, W1, b1, W2, b2):
    return np.log(np.cosh(np.maximum(x @ W1 + b1, 0) @ W2 + b2 - y)).sum(1).mean()

def backward(x, y, W1, b1, W2, b2):
    h = np.maximum(x @ W1 + b1, 0)
    d2 = np.tanh(h @ W2 + b2 - y) / len(x)
    d1 = d2 @ W2.T * (h > 0)
    return dict(dW1=x.T @ d1, db1=d1.sum(0), dW2=h.T @ d2, db2=d2.sum(0))
"""


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (" * (h > 0)", "", "That is δ_O W_Oᵀ times (1, 1, 1, 1, 1), where g′(z_I) belongs: (0, 1, 1, 1, 1)."),
        ("h.T @ d2", "2 * h.T @ d2", "Even with one sample: δ_O is"),
        ("d1.sum(0)", "2 * d1.sum(0)", "Even with one sample: db_I["),
    ],
)
def test_what_should_be_is_of_the_loss_that_is_named(check, old, new, sentence):
    network = "model.hidden_activation=relu", "model.output_activation=identity", "model.loss=mse"
    status, said = check(OWN_LOSS.replace(old, new), "loss=cost", *network)
    assert status == 1
    assert sentence in said
    assert ("δ_O is" in said) == ("δ_O is" in sentence)


@pytest.mark.parametrize(
    ("loss", "factor", "sentences"),
    [
        ("", "2 * ", ("2 too many", "right: ∂L/∂ŷ = (yhat − y) [", "yours: ∂L/∂ŷ = 2 (yhat − y) ")),
        ("", "0.5 * ", ("a factor 2 is missing", "right: ∂L/∂ŷ = (yhat − y) [", "yours: ∂L/∂ŷ = 1/2 (yhat − y) ")),
        ("", "len(x) * ", ("there is a factor B too many",)),
        ("", "0.3 * ", ("everything is 0.3 times the right one", "yours: δ_O = 0.3 ∂L/∂ŷ")),
        ("/ len(x)", "2 / len(x) * ", ("right: ∂L/∂ŷ = (yhat − y) / B", "yours: ∂L/∂ŷ = 2 (yhat − y) / B")),
        ("* 2", "4 * ", ("right: ∂L/∂ŷ = 2 (yhat − y) [", "yours: ∂L/∂ŷ = 2 · 2 (yhat − y) ")),
        ("* 6", "12 * ", ("2 too many",)),
    ],
)
def test_a_factor_is_told_by_the_scale_of_the_loss_that_is_named(check, loss, factor, sentences):
    text = f"""
    import numpy as np

    def cost(x, y, W1, b1, W2, b2):
        return 0.5 * np.sum((np.tanh(x @ W1 + b1) @ W2 + b2 - y) ** 2) {loss}

    def backward(x, y, W1, b1, W2, b2):
        h = np.tanh(x @ W1 + b1)
        yhat = h @ W2 + b2
        d2 = {factor}(yhat - y)
        d1 = d2 @ W2.T * (1 - h * h)
        return dict(dW1=x.T @ d1, db1=d1.sum(0), dW2=h.T @ d2, db2=d2.sum(0))
    """
    status, said = check(text, "loss=cost", "model.output_activation=identity", "model.loss=mse")
    assert status == 1
    assert all(sentence in said for sentence in sentences), said
    assert "(B C)" not in said
    assert ("∂L/∂ŷ =" in said) == any("∂L/∂ŷ =" in sentence for sentence in sentences)


def test_a_penalty_must_be_that_of_the_loss(check):
    text = RIGHT.replace("b_O):", "b_O, reg=0.0):").replace(
        '"dW_I": x.T @ delta_I', '"dW_I": x.T @ delta_I + reg * W_I'
    )
    right = text.replace('"dW_O": h.T @ delta_O', '"dW_O": h.T @ delta_O + reg * W_O')
    status, said = check(right)
    assert status == 0
    assert "With regularisation of 0.1 it is right, too" in said
    for wrong in (text, right.replace("delta_O.sum(0)", "delta_O.sum(0) + reg * b_O")):
        status, said = check(wrong)
        assert status == 1
        assert "egularisation" in said or "weight decay" in said


@pytest.mark.parametrize(("coefficient", "said_of_it"), [("2 * reg", "λ = 2 reg = 0.2"), ("reg", "λ = reg = 0.1")])
def test_the_coefficient_of_a_penalty_is_told_by_the_argument(check, coefficient, said_of_it):
    text = RIGHT.replace("b_O):", "b_O, reg=0.0):").replace("h.T @ delta_O,", f"h.T @ delta_O + {coefficient} * W_O,")
    status, said = check(text.replace("x.T @ delta_I,", f"x.T @ delta_I - {coefficient} * W_I,"))
    assert status == 1
    assert "wrong: penalty subtracted" in said
    assert "right: dW_I = xᵀ · delta_I + λ W_I" in said
    assert "yours: dW_I = xᵀ · delta_I − λ W_I" in said
    assert said_of_it in said
    assert "A penalty is in it" not in said


def test_the_coefficient_of_a_penalised_bias_is_told_by_the_argument(check):
    text = RIGHT.replace("b_O):", "b_O, lambd=0.0):")
    for weight in "IO":
        text = text.replace(f"@ delta_{weight},", f"@ delta_{weight} + lambd / len(x) * W_{weight},")
    status, said = check(text.replace("delta_I.sum(0)", "delta_I.sum(0) + lambd / len(x) * b_I"))
    assert status == 1
    assert "the bias b_I is added, times lambd/B = 0.0143, and a bias is not penalised" in said
    assert "yours: db_I = Σ_B delta_I + lambd/B b_I" in said


KAGGLE = """
import numpy as np

def backward(X, Y, W1, b1, W2, b2):
    m = X.shape[1]
    A1 = np.tanh(W1.dot(X) + b1)
    E = np.exp(W2.dot(A1) + b2)
    dZ2 = E / E.sum(0) - Y
    dW2 = 1 / m * dZ2.dot(A1.T)
    db2 = 1 / m * dZ2.sum(1, keepdims=True)
    dZ1 = W2.T.dot(dZ2) * (1 - A1 ** 2)
    dW1 = 1 / m * dZ1.dot(X.T)
    db1 = 1 / m * dZ1.sum(1, keepdims=True)
    return dW1, db1, dW2, db2
"""


@pytest.mark.parametrize(
    ("old", "new", "right", "yours"),
    [
        ("dZ2.sum(1, keepdims=True)", "np.sum(dZ2)", "db2 = 1/B Σ_B dZ2", "db2 = 1/B Σ_B Σ_units dZ2"),
        ("1 / m * dZ2.sum", "dZ2.sum", "db2 = 1/B Σ_B dZ2", "db2 = Σ_B dZ2"),
        ("1 / m * dZ2.sum", "1 / m**2 * dZ2.sum", "db2 = 1/B Σ_B dZ2", "db2 = 1/B 1/B Σ_B dZ2"),
        ("1 / m * dZ1.dot", "-1 / m * dZ1.dot", "dW1 = 1/B dZ1 · Xᵀ", "dW1 = −1/B dZ1 · Xᵀ"),
    ],
)
def test_the_right_line_takes_the_mean_where_a_file_does(check, old, new, right, yours):
    said = check(KAGGLE.replace(old, new))[1]
    assert f"right: {right} [" in said
    assert f"yours: {yours} mine.py" in said
    # With the mean in δ, the gradients have none.
    inside = KAGGLE.replace("1 / m * ", "")
    inside = inside.replace("dZ2 = E / E.sum(0) - Y", "dZ2 = (E / E.sum(0) - Y) / m")
    assert "1/B" not in check(inside.replace("dZ2.sum(1, keepdims=True)", "np.sum(dZ2)"))[1].partition("right:")[2]


def test_a_network_without_biases_is_told_of_none(check):
    text = "import numpy as np\ndef backward(x, y, W1, W2):\n    h = np.tanh(x @ W1)\n    d2 = h @ W2 - y\n"
    text += "    return x.T @ (d2 @ W2.T * (1 - h * h)), h.T @ d2\n"
    status, said = check(text, "model.output_activation=identity", "model.loss=mse")
    assert status == 0
    assert "weights (in, out); numpy" in said


def test_what_gives_the_same_numbers_is_listed_once(check):
    softmax = "e / e.sum(1, keepdims=True)"
    text = RIGHT.replace(" / len(x)", f" * {softmax} * (1 - {softmax})")
    said = check(text, "sizes=[5,4,6,2]")[1]
    assert said.count("the same numbers here as: ∂L/∂ŷ is that of huber") == 1


def test_a_penalty_without_an_argument_is_named_in_the_loss(check):
    text = RIGHT.replace("x.T @ delta_I", "x.T @ delta_I + 0.3 * W_I").replace(
        "h.T @ delta_O", "h.T @ delta_O + 0.3 * W_O"
    )
    status, said = check(text.replace(" / len(x)", ""))
    assert status == 0
    assert "Right, for L = Σ the loss of each sample + 0.15 Σ W²." in said
    assert "0.3 times the weight is added" in said


DESCENT = """
import numpy as np

def gradient_descent(X, y, alpha=0.01, num_iters=1000):
    w, b = np.zeros(X.shape[1]), 0.0
    for i in range(num_iters):
        err = 1 / (1 + np.exp(-(X @ w + b))) - y
        w = w - alpha * X.T @ err / len(y)
        b = b - alpha * err.mean()
    return w, b
"""
FIT = """
import numpy as np

class Net:
    def __init__(self, units, epochs=1):
        self.units, self.epochs = units, epochs

    def fit(self, X, y):
        rng = np.random.default_rng(0)
        self.W1, self.b1 = rng.normal(0, 0.1, (X.shape[1], self.units)), np.zeros(self.units)
        self.W2, self.b2 = rng.normal(0, 0.1, (self.units, y.shape[1])), np.zeros(y.shape[1])
        for _ in range(self.epochs):
            h = np.tanh(X @ self.W1 + self.b1)
            e = np.exp(h @ self.W2 + self.b2)
            d2 = (e / e.sum(1, keepdims=True) - y) / len(X)
            d1 = d2 @ self.W2.T * (1 - h**2)
            self.W2 -= 0.1 * h.T @ d2
            self.b2 -= 0.1 * d2.sum(0)
            self.W1 -= 0.1 * X.T @ d1
            self.b1 -= 0.1 * d1.sum(0)
"""


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        (
            DESCENT,
            "gradient_descent",
            ["model.hidden=[]", "model.output_activation=sigmoid", "model.loss=binary_cross_entropy", "sizes=[7,4,1]"],
        ),
        (FIT, "", ["call=n=Net(H); n.W1,n.b1,n.W2,n.b2=W1,b1,W2,b2; n.fit(x,y); vars(n)"]),
    ],
)
def test_what_makes_its_own_weights_is_not_judged(check, text, name, arguments):
    status, said = check(text, *arguments, name=name)
    assert status == 2
    assert "Not judged: the numbers that it returns are the same whatever weights it is given" in said


STEP = RIGHT.replace(
    "def backward(x, y, W_I, b_I, W_O, b_O)", "def step(x, y, W_I, b_I, W_O, b_O, learning_rate, beta=0.9)"
)
MOMENTUM = STEP.replace(
    STEP[STEP.index("    return") :],
    """    gradients = (x.T @ delta_I, delta_I.sum(0), h.T @ delta_O, delta_O.sum(0))
    return [p - learning_rate * (1 - beta) * g for p, g in zip((W_I, b_I, W_O, b_O), gradients)]
""",
)


def test_a_step_with_momentum_is_not_judged_by_its_size(check):
    status, said = check(MOMENTUM, name="step")
    assert status == 2
    assert "Not judged: the steps are right but for their size, as the first one of a momentum is" in said
    assert "wrong because" not in said


def test_an_l1_penalty_is_told_and_accuses_nobody(check):
    text = RIGHT.replace("b_O):", "b_O, reg=0.0):").replace("x.T @ delta_I", "x.T @ delta_I + reg * np.sign(W_I)")
    text = text.replace("h.T @ delta_O", "h.T @ delta_O + reg * np.sign(W_O)")
    status, said = check(text)
    assert status == 0
    assert "With regularisation of 0.1 it has an L1 penalty: 0.1 sign(W) is added." in said
    status, said = check(text.replace("reg * np.sign(W_O)", "reg * np.sign(h.T @ delta_O)"))
    assert status == 1


def test_a_penalty_that_a_call_leaves_out_is_said(check):
    text = RIGHT.replace("b_O):", "b_O, *, lambd=0.0):").replace("x.T @ delta_I", "x.T @ delta_I + lambd * W_I")
    status, said = check(text, "call=backward(x, y, W1, b1, W2, b2)")
    assert status == 0
    assert "lambd was left at its default; with lambd=0.1 in the call the penalty is judged, too." in said
    assert "call='backward(x, y, W1, b1, W2, b2, lambd=0.1)'" in check(text)[1]


def test_a_loss_with_an_epsilon_in_it_accuses_nobody(check):
    loss = "-np.mean(np.sum(y * np.log(e / e.sum(1, keepdims=True) + 1e-5), axis=1))"
    text = RIGHT.replace("return {", f"return {loss}, {{")
    status, said = check(text)
    assert status == 2
    assert "Not judged: it is right for cross_entropy, and its own loss is a little different" in said


@pytest.mark.parametrize("drawn", ["np.random.rand(5)", "np.random.default_rng().random(5)"])
def test_what_draws_random_numbers_is_not_judged(check, drawn):
    text = RIGHT.replace("h = np.tanh(x @ W_I + b_I)", f"h = np.tanh(x @ W_I + b_I) * ({drawn} < 0.5)")
    status, said = check(text)
    assert status == 2
    assert "Not judged: two equal calls give different random numbers" in said


def test_a_size_that_is_written_down_stops_with_unequal_sizes(check):
    text = RIGHT.replace("    h = ", "    W_I = W_I.reshape(4, 4)\n    h = ")
    status, said = check(text)
    assert status == 2
    assert "Right where all layers have 4 units; it stops with unequal sizes: " in said
    status, said = check(text.replace("W_O.T", "W_O"))
    assert status == 1
    assert "It was judged with 4 units in all layers; it stops with unequal sizes: " in said


def test_what_is_not_judged_with_unequal_sizes_is_one_line(check, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # a long path would be folded
    text = RIGHT.replace("h @ W_O +", "h @ W_O.T +").replace("delta_O @ W_O.T * (1 - h * h)", "np.sin(delta_O @ W_O)")
    assert check(text, "sizes=[7,4,4,4]")[0] == 1
    status, said = check(text)
    assert status == 2
    assert re.search(r"Not judged: \S*mine.py:6 stops with layers of unequal sizes: ValueError: .*size", said)
    assert "; is a transpose missing, or one too many?" in said
    assert said.endswith("Where all layers have 4 units it runs, but nothing explains its numbers.")


def test_what_is_right_for_another_network_is_one_line(check):
    text = RIGHT.replace("np.tanh(x @ W_I + b_I)", "np.maximum(x @ W_I + b_I, 0)").replace("(1 - h * h)", "(h > 0)")
    status, said = check(text)
    assert status == 2
    assert "Not judged: it is right for another network: model.hidden_activation=relu" in said
    assert said.endswith("say which is meant.")


def test_one_mistake_with_another_activation_than_the_named_one_is_not_judged_but_asked_for(check):
    text = RIGHT.replace("np.tanh(x @ W_I + b_I)", "np.maximum(x @ W_I + b_I, 0)").replace(" * (1 - h * h)", "")
    status, said = check(text)
    assert status == 2
    assert said.endswith(
        "Not judged: as g = tanh nothing explains it, but with model.hidden_activation=relu a known mistake does; "
        "ask again with that option."
    )
    status, said = check(text, "model.hidden_activation=relu")
    assert status == 1
    assert "the factor g′(z_I) is missing" in said


def test_a_script_with_one_function_is_asked_for_a_weight(check):
    text = """
    import numpy as np

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    W1, W2 = np.ones((3, 4)), np.ones((4, 1))
    for _ in range(9):
        W1 -= W1
        W2 -= sigmoid(W2)
    """
    status, said = check(text, name="")
    assert status == 2
    assert "a script: name a weight that its loop changes: target=" in said
    assert said.endswith("mine.py:W1 (or W2)")
    assert "one half of an operation" in check(text)[1] + check(text, name="sigmoid")[1]


def test_what_is_missing_is_never_counted_as_right(check):
    status, said = check(RIGHT.replace('"db_I": delta_I.sum(0), ', ""))
    assert status == 2
    assert "Not judged, because not found: db_I." in said


def test_nothing_but_imports_definitions_and_constants_is_executed(check, tmp_path):
    text = f"""
    import this_is_not_installed
    import numpy as np
    RATE = 0.1
    data = np.loadtxt("nowhere.csv")
    X, y = data[:, :-1], data[:, -1]
    net = train(X)
    for epoch in range(10**9):
        pass
    while True:
        break
    with open({str(tmp_path / "written")!r}, "w") as file:
        file.write("no")
    raise SystemExit(3)
    if __name__ == "__main__":
        raise RuntimeError
    """
    assert check(textwrap.dedent(text) + RIGHT)[0] == 0
    assert not (tmp_path / "written").exists()
    # Of what was not executed is told where it is needed.
    status, said = check(textwrap.dedent(text) + RIGHT.replace("np.tanh(", "net.tanh("))
    assert status == 2
    assert "line 7, which defines net, is not executed" in said
    status, said = check(textwrap.dedent(text) + RIGHT.replace("np.tanh(", "this_is_not_installed.tanh("))
    assert "No module named 'this_is_not_installed'" in said


def test_a_notebook_is_read(tmp_path, capsys):
    cells = [["%matplotlib inline\n", "!pip install x\n", *RIGHT.splitlines(keepends=True)], ["%%time\n", "train()"]]
    cells.append(["raise SystemExit"])
    notebook = {
        "cells": [{"cell_type": "code", "source": cell} for cell in cells] + [{"cell_type": "markdown", "source": "#"}]
    }
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps(notebook))
    assert asked(capsys, f"target={path}:backward")[0] == 0
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": ["x = (\n"]}]}))
    assert "cell 1, line 1: syntax error" in asked(capsys, f"target={path}")[1]
    path.write_text("{")
    assert "is no notebook" in asked(capsys, f"target={path}")[1]


def test_what_was_printed_is_not_shown(check):
    assert "HELLO" not in check(RIGHT.replace("    h =", "    print('HELLO' * 9)\n    h ="))[1]


def test_the_same_in_torch_with_class_numbers_and_in_float32(check):
    text = """
    import torch

    def backward(x, y, W_I, b_I, W_O, b_O):
        x, W_I, b_I, W_O, b_O = (t.float() for t in (x, W_I, b_I, W_O, b_O))
        h = torch.relu(x @ W_I + b_I)
        delta_O = torch.softmax(h @ W_O + b_O, 1) - torch.nn.functional.one_hot(y, W_O.shape[1])
        delta_O = delta_O / len(x)
        delta_I = delta_O @ W_O.T * (h > 0)
        return {"dW_I": x.T @ delta_I, "db_I": delta_I.sum(0), "dW_O": h.T @ delta_O, "db_O": delta_O.sum(0)}
    """
    status, said = check(text, "model.hidden_activation=relu")
    assert status == 0
    assert "y as class numbers from 0; torch" in said


def test_a_derivation_for_one_sample_is_told_from_one_that_forgot_the_sum(check):
    single = RIGHT.replace(".sum(0)", "").replace("/ len(x)", "")
    status, said = check(single)
    assert status == 2
    assert "Right for one sample at a time" in said
    assert check(single, "sizes=[1,4,5,3]")[0] == 0
    assert check(single, "sizes=[7,4,5,3]")[0] == 1


@pytest.mark.slow
def test_the_examples_are_judged_as_the_docs_say(capsys):
    for arguments, status, sentence in (
        (["right.py:TwoLayers"], 0, "Right"),
        (["wrong_factor.py:backward", "model.hidden_activation=sigmoid"], 1, "the factor g′(z_I) is missing"),
        (
            ["wrong_twice.py:backward", "model.hidden_activation=relu", "model.output_activation=sigmoid",
             "model.loss=mse"],
            1,
            "db_I is wrong: it is averaged over the batch, not summed.",
        ),
        (["operation.py:Swish"], 1, "is ignored"),
        (
            ["trainer.py", "model.hidden_activation=sigmoid", "model.output_activation=sigmoid", "model.loss=mse",
             "call=n=Trainer(D,H,C); n.W1,n.b1,n.W2,n.b2=W1,b1,W2,b2; n.step(x,y); vars(n)"],
            1,
            "W_O has already been updated when δ_I is taken through it",
        ),
    ):  # fmt: skip
        target, *rest = arguments
        found, said = asked(capsys, f"target={ROOT / 'examples' / target}", *rest)
        assert found == status
        assert sentence in said
        assert ("factor 2 of the squared error is missing" in said) == target.startswith("wrong_twice")


FUNCTION = """
import torch

class Net(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, W_I, b_I, W_O, b_O):
        h = torch.sigmoid(x @ W_I + b_I)
        ctx.save_for_backward(x, W_I, W_O, h)
        return h @ W_O + b_O

    @staticmethod
    def backward(ctx, delta_O):
        x, W_I, W_O, h = ctx.saved_tensors
        delta_I = delta_O @ W_O.T * h * (1 - h)
        return delta_I @ W_I.T, x.T @ delta_I, delta_I.sum(0), h.T @ delta_O, delta_O.sum(0)
"""


@pytest.mark.parametrize(
    ("old", "new", "status", "sentence"),
    [
        ("", "", 0, "torch.autograd.gradcheck says: right, too"),
        ("return delta_I @ W_I.T,", "return None,", 0, "Right"),
        ("h.T @ delta_O,", "delta_O.T @ h,", 1, "dW_O is wrong: the product is transposed"),
        ("delta_O.sum(0)", "delta_O", 1, "not summed over the batch"),
        ("delta_I = delta_O @", "delta_I = -delta_O @", 1, "because δ_I is: its sign is flipped"),
        ("* h * (1 - h)", "* h", 1, "g is used where g′ is needed"),
    ],
)
def test_a_function_that_returns_z_is_checked_as_such(check, old, new, status, sentence):
    found, said = check(FUNCTION.replace(old, new, 1), "model.hidden_activation=sigmoid", name="Net")
    assert found == status
    assert sentence in said


# What can be wrong with a file, and the words that must be in the one line about it.
WRONG = {
    "def backward(x, y:": "mine.py:1: syntax error",
    "def backwards(x, y, W_I, b_I, W_O, b_O): pass": "has no backward (did you mean backwards?)",
    "x = 1": "has no backward; it has no function or class",
    "backward = 3": "no loop at the top of the file changes backward",
    "class backward: pass": "backward has no forward method",
    "def backward(x, y, q, W1): pass": "asks for q, whose meaning its name does not tell; say how it is called: call='",
    "def backward(*a): return {}": "no gradient and no stepped weight was found in what it returned",
    "def backward(*a): return {'dW_I': 'much'}": "no gradient and no stepped weight was found",
    "def backward(*a): return {'dW_I': a[2] * float('nan')}": "dW_I has 20 numbers that are NaN or infinite",
    "def backward(*a): return 1 / 0": "mine.py:1: ZeroDivisionError: division by zero",
    "def backward(*a): raise SystemExit": "mine.py:1: SystemExit",
    "def f(x): return x\ndef g(x): return x": "which is meant?",
}
NET = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden, n_out, rng):
        self.W1, self.b1 = rng.normal(size=(n_in, n_hidden)), np.zeros(n_hidden)
        self.W2, self.b2 = rng.normal(size=(n_hidden, n_out)), np.zeros(n_out)

    def forward(self, x):
        self.x, self.h = x, np.tanh(x @ self.W1 + self.b1)
        e = np.exp(self.h @ self.W2 + self.b2)
        self.p = e / e.sum(1, keepdims=True)
        return self.p

    def backward(self, y):
        d = self.p - y
        self.dW2, self.db2 = self.h.T @ d, d.sum(0)
        d = d @ self.W2.T * (1 - self.h**2)
        self.dW1, self.db1 = self.x.T @ d, d.sum(0)
"""
LINE = "call='n=Net(D,H,C,…); n.W1,n.b1,n.W2,n.b2=W1,b1,W2,b2; n.forward(x); n.backward(y); vars(n)'"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("", "", LINE),
        ("self, y)", "self, x, y)", LINE.replace("n.forward(x); n.backward(y)", "n.backward(x,y)")),
        ("self, y)", "self, truth)", LINE),
        ("def backward", "def learn", LINE.replace("backward(y)", "…(x,y)").replace("n.forward(x); ", "")),
        ("self.W1", "self.net['W1']", LINE.replace("n.W1", 'n.net["W1"]')),
        ("self.b", "self.q", LINE.replace("n.W1,n.b1,n.W2,n.b2=W1,b1,W2,b2", "n.W1,n.W2=W1,W2")),
        ("n_in, n_hidden, n_out, rng", "inputs, hidden, outputs, rng, rate=0.1", LINE),
        ("n_in, n_hidden, n_out, rng", "W1, b1, W2, b2, rng",
         "call='n=Net(W1,b1,W2,b2,…); n.forward(x); n.backward(y); vars(n)'"),
    ],
)  # fmt: skip
def test_the_call_of_a_class_is_given_with_what_is_known_of_it(check, old, new, line):
    status, said = check(NET.replace(old, new), name="Net")
    assert status == 2
    assert line in said


def test_a_completed_call_of_a_class_works(check):
    line = LINE.removeprefix("call='").removesuffix("'").replace("…", "np.random.default_rng(0)")
    assert check(NET, f"call={line}", name="")[0] == 0
    status, said = check(NET, "call=Net(D,H,C,np.random.default_rng(0))", name="")
    assert status == 2
    assert f"a network's call uses its weights, W1, W2, …, such as {LINE}" in said


def test_a_class_that_is_taken_for_an_operation_is_told_how_a_network_is_asked_about(check):
    text = NET.replace("W1", "A").replace("W2", "V").replace("y)", "goal)").replace("- y", "- goal")
    assert "if Net is a network, say how it is used: call='n=Net(D,H,C,…); n.…" in check(text, name="Net")[1]


ENDLESS = {
    "def backward(*a): import os; os._exit(7)": "ended the process (exit status 7) without an answer",
    "def backward(*a):\n    while True: pass": "gave no answer within 2 s; give it more, with time_limit=4",
    "def backward(*a): import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "(signal SIGSEGV) without an answer",
    "def backward(*a): return {'dW_I': [0] * 10**10}": "it takes more memory than it may",
    "import os\ndef backward(*a):\n    for _ in range(99): os.write(1, b'x' * 10**6)\n    return 1": "no gradient",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_file_that_cannot_be_judged_gets_one_line(check, text):
    status, said = check("import numpy as np\n" * ("nan" in text) + text, name="" if "def g" in text else "backward")
    assert status == 2
    assert WRONG[text] in said


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return backward(*a)", "RecursionError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("input()", "EOFError"),
        ("open('nowhere.csv')", "FileNotFoundError"),
        ("return 1 / 0", "ZeroDivisionError"),
        ("raise NotImplementedError", "NotImplementedError"),
        ("return {'dW1': a[2] * float('nan')}", "dW1 has 20 numbers that are NaN or infinite"),
        ("return a[2] * np.nan, a[4] * np.nan", "dW_I has 20 numbers that are NaN or infinite"),
    ],
)
def test_no_other_call_is_asked_for_where_it_would_not_help(check, body, reason, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    status, said = check(f"import numpy as np\ndef backward(*a): {body}")
    assert status == 2
    assert reason in said
    assert "call=" not in said


@pytest.mark.parametrize(
    "text", [text if "_exit" in text else pytest.param(text, marks=pytest.mark.slow) for text in ENDLESS]
)
def test_a_file_that_ends_its_process_or_never_ends_gets_one_line(tmp_path, capsys, text):
    (tmp_path / "mine.py").write_text(text)
    limit = ["time_limit=2"] if "while" in text else []
    status = gradcheck.gradcheck([f"target={tmp_path / 'mine.py'}:backward", *limit])
    printed = capsys.readouterr()
    assert status == 2
    assert not printed.out
    assert printed.err.count("\n") == 1
    assert ENDLESS[text] in printed.err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FUNCTION.replace("+ b_O", ""), "(b_O is left out; mend that first)"),
        (FUNCTION.replace("torch.sigmoid(x @ W_I + b_I)", "x @ W_I + b_I"), "(g is left out"),
        (FUNCTION.replace("torch.sigmoid", "torch.relu"), "(it is that of model.hidden_activation=relu"),
        (FUNCTION.replace("return h @ W_O + b_O", "return h"), "its shape is (7, 5), and should be (7, 3)"),
        (FUNCTION.replace("return h @ W_O + b_O", "return 'z'"), "forward returned a str"),
        (FUNCTION.replace(", delta_O.sum(0)", ""), "returned 4 gradients, and there are 5 inputs"),
        (FUNCTION.replace("def backward", "def backwards"), "NotImplementedError"),
    ],
)
def test_a_function_that_cannot_be_judged_gets_one_line(check, text, reason):
    status, said = check(text, "model.hidden_activation=sigmoid", name="Net")
    assert status == 2
    assert reason in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["target=nowhere.py:f"], "no such file"),
        (["target"], "target: must be key=value"),
        (["mine.py"], "mine.py: must be key=value; did you mean target=mine.py?"),
        (["a-b/mine.ipynb:f", "model.loss=mse"], "did you mean target=a-b/mine.ipynb:f?"),
        (["target=a.py", "target=b.py"], "target: is given twice"),
        (["target=a.py", "model.loss=[mse"], "model.loss=[mse: cannot be read; a bracket or a quote may not be closed"),
        (["taget=mine.py"], "taget: no such key (did you mean target?)"),
        (["taget=mine.py", "model.loss=mse"], "taget: no such key (did you mean target?)"),
        (["target="], "target=: names no file; must be FILE, FILE:NAME or FILE:CLASS.METHOD"),
        (["target=nowhere.py:f", "only=tanh"], "only: is for the check of every derivative, not for a target"),
        ([f"target={ROOT}:f"], "is a folder"),
        ([f"target={ROOT}/README.md:f"], "must be a Python file or a notebook"),
        ([f"target={ROOT}/examples/right.py:1+1"], "must be FILE, FILE:NAME or FILE:CLASS.METHOD"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "sizes=[1,2,3]"], "4 whole numbers"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "sizes=[0,2,3,4]"], "4 whole numbers"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "sizes=[5,5,5,1]"], "always 1"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "sizes=[5,5,5,201]"], "from 1 to 200"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "model.hidden=[3,3]", "sizes=[2,2]"], "5 whole numbers"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "model.loss=mze"], "did you mean mse"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "model.class_weight=[1,2]"], "2 numbers for 3 outputs"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "time_limit=0"], "above 0"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "call=x ="], "call=x =: syntax error"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "call=n = 3"], "must be Python that ends with a value"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "call='backward(x, y)'"], "without quotes"),
        ([f"target={ROOT}/examples/right.py:TwoLayers", "call="], "must be Python that ends with a value"),
        (["target=/dev/null"], "is no regular file"),
        (["call=backward(x, y)"], "name it with target=FILE:NAME"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, reason, capsys):
    status, said = asked(capsys, *arguments)
    assert status == 2
    assert reason in said
    assert "=given" not in said


def test_more_time_is_twice_the_time_that_was_given(check):
    assert "give it more, with time_limit=0.02" in check(RIGHT, "time_limit=0.01")[1]


@pytest.mark.parametrize("argument", ["call=f(x)", "loss=f", "sizes=[1,2,3,4]", "model.loss=mse"])
def test_what_is_for_a_target_needs_one(argument, capsys):
    assert gradcheck.gradcheck([argument]) == 2
    assert "is for a derivation of your own" in capsys.readouterr().err


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("weights", ["(in, out)", "(out, in)"])
@pytest.mark.parametrize("samples", ["rows", "columns"])
def test_every_layout_there_and_back_is_the_same(samples, weights, bias):
    rng = np.random.default_rng(0)
    draw = Draw(
        rng.normal(size=(7, 4)), rng.normal(size=(7, 3)), None,
        (rng.normal(size=(4, 5)), rng.normal(size=(5, 3))), (rng.normal(size=5), rng.normal(size=3)), (), (),
    )  # fmt: skip
    layout = Layout(samples, weights, bias)
    assert np.array_equal(layout.ours_of_samples(layout.sample(draw.x)), draw.x)
    for W, b in zip(draw.W, draw.b, strict=True):
        theirs = layout.weight(W, b)
        theirs[...] += 0  # a copy of its own
        expected = np.concatenate([b[None], W] if "first" in bias else [W, b[None]]) if layout.folded else W
        assert np.array_equal(layout.ours(theirs), expected)


def test_the_signs_of_losses_and_formulas_are_printed_in_ascii():
    text = "L = ½ Σ (ŷ − y)²; (W2 − η dW_O)ᵀ".encode("ascii", "backhand.ascii").decode()
    assert text == "L = 1/2 sum (yhat - y)^2; (W2 - eta dW_O)^T"
