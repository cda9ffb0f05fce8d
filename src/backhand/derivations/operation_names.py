"""What the names of methods and arguments mean in a single operation, which has no layers to count."""

import re
from typing import Any, NamedTuple

# Methods of a class.
FORWARD = ("forward", "function", "f", "func", "fn", "__call__", "activate", "activation", "compute", "loss", "value")
BACKWARD = ("backward", "gradient", "derivative", "grad", "prime", "backprop", "f_prime", "deriv", "df", "delta")
# A function that returns gradients, and what its name has more than that of its function.
GRADIENT_NAME = re.compile(r"grad|prime|deriv|back|(^|_)d([A-Z_]|$)", re.I)
GRADIENT_AFFIX = re.compile(
    r"_?(?:grad(?:ient)?|prime|deriv(?:ative|ated)?|backward|bwd|back|vjp|der|diff|d)$|^(?:grad|d|deriv|der|backward|prime)_?",
    re.I,
)

# Arguments of backward.
UPSTREAM = re.compile(
    r"g|v|d_?(out|next|[yzahl])\w*|d_?values?|delta\w*|grads?|gy|g_?out|\w+_gradients?|grad_?\w+|up\w*|incoming\w*",
    re.I,
)
OUTPUT = re.compile(r"a|y|out\w*|s|h|sig\w*|act\w*|f_?x|y_?hat|y_pred|result", re.I)
KEPT = re.compile(r"outputs?|out|probs?|probabilities|softmax\w*|y_?hat|y_?pred|preds?|predictions?|act\w*|p|a|y", re.I)
CACHE = re.compile(r"caches?|ctx|saved|memo|context", re.I)
RATE = re.compile(r"lr|eta|learning_?rate|step_?size", re.I)

# The target of a loss.
TARGET = re.compile(r"(?-i:t)|y|(y_?)?(target|label)s?|y_?true|true\w*|truth|gt|actual|expected|desired", re.I)


class Constant(NamedTuple):
    """An argument that is no array of random numbers."""

    value: Any


SCALAR = (
    r"alpha|beta|slope|negative_slope|lam(bda)?_?|temperature|tau|delta|margin|momentum|sigma|scale|lr|learning_?rate"
)
# What an argument of that name may be, the likeliest first. A string is a shape by its letters, after the word for
# what is drawn if that is not real numbers; a "size" is that of a dimension.
KINDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    (r"conv_param", (Constant({"stride": 1, "pad": 1}),)),
    (r"pool_param", (Constant({"pool_height": 2, "pool_width": 2, "stride": 2}),)),
    (r"dropout_param", (Constant({"mode": "train", "p": 0.5, "seed": 1}),)),
    (r"\w+_param", (Constant({"mode": "train"}),)),
    (r"idx|index|indices|ids|tokens?|token_ids", ("labels n", "labels nd")),
    (r"axis|dim", (Constant(1), Constant(0), Constant(-1))),
    (r"mask|cond\w*", ("mask nd", "mask d")),
    (r"prev_\w+|h\d?|hidden|state", ("nm", "nd")),
    (r"train\w*|is_train\w*", (Constant(True),)),
    (r"p|drop\w*|prob|rate|ratio", (Constant(0.5), Constant(2), "nd")),
    (r"strides?", (Constant(1), Constant(2))),
    (r"pad(ding)?", (Constant(0), Constant(1))),
    (r"kernel_?size|window|pool\w*", (Constant(2),)),
    (r"n|power|exponent", (Constant(3),)),
    (r"eps(ilon)?", (Constant(1e-5),)),
    (r"reduction", (Constant("mean"),)),
    (r"lo|low|min|lower|a_?min|min_?val", (Constant(-1.0), "nd")),
    (r"hi|high|max|upper|a_?max|max_?val", (Constant(1.0), "nd")),
    (
        r"weights?|w\w?|kernels?|filters?|theta|\w+_weights?|w_\w+|u",
        ("md", "dm", "mck", "mckk", "d", "nd", "mn", "mm", "m", "1", ""),
    ),
    (r"bias(es)?|b\d?|b_\w+|\w+_bias", ("m", "d", "1m", "m1", "1d", "n1", "1", "")),
    (r"gamma|beta|scale|shift|gain", ("d", Constant(0.7), "", "1", "1d")),
    (SCALAR, (Constant(0.7), "", "1", "d")),
)
_COUNT, _UNITS = r"(n_?|num_?)?", r"_?(dims?|features|channels|size|units)?"
OF_CONSTRUCTOR: tuple[tuple[str, tuple[Any, ...]], ...] = (
    (rf"{_COUNT}(in|inputs?){_UNITS}|fan_in|(num_?)?features|dim|size", ("size d",)),
    (rf"{_COUNT}(out|outputs?|hidden){_UNITS}|n_?neurons|fan_out|units", ("size m",)),
)


def gradient_key(name: str) -> str | None:
    """The name of what it is the gradient of, where the name says that it is one: of dW and grads[W], w."""
    container, bracket, key = name.lower().partition("[")
    key = re.sub(r"\W", "", key) if bracket else container
    match = re.fullmatch(r"(?:d|grads?|gradients?)_?(\w+)|(\w+?)_?(?:grads?|gradients?)", key)
    stripped = next((group for group in match.groups() if group), None) if match else None
    if bracket:
        return (stripped or key) if re.fullmatch(r"d?_?(grads?|gradients?|params?)", container) else None
    return stripped
