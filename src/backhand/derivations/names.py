"""What a name in somebody's derivation means: `dW1`, `w_ih`, `grads['b2']` and `theta1` are gradients and parameters.

A name is read as a kind, of which there is one for each argument that a backward pass may ask for, and where the kind
has one a layer, as the layer, counted from 1. Nothing is told by an argument's place.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from types import MappingProxyType

# Each kind's names, without underscores and capitals.
_KINDS = {
    "x": "x xs xi in inp input inputs data datainput img image images features feature xtrain trainx batchx xbatch xb "
    "a0 h0 sample inputdata inputvector inputlayer v inputarray invec",
    "y": "y ys t target targets targ targs label labels lbl l yb ytrain trainy batchy ybatch ytrue truth dataoutput "
    "expected desired groundtruth yoh onehoty yonehot onehot ytarget trueoutput d correct answers answer gt tgt ohy "
    "expectedoutput targetoutput truelabels counts count r response responses tau",
    "yhat": "yhat ypred yp yhats pred preds prediction predictions output outputs out outs outy yout o probs prob p al "
    "probabilities softmaxout final activationout outputlayer finaloutput finaloutputs result outputactivations py "
    "outputlayeroutputs youtput outact aout ao",
    "z_last": "zl logits logit scores score zo zout zoutput neto netout preact2 outin outputin",
    "z_first": "zh zi hpreact preact zhidden neth nethidden htilde hin hiddenin hraw zin",
    "a_first": "h hid hidden hout outh hiddenout hiddenoutput hiddenoutputs hiddenlayer hiddenact hiddens ah hrelu "
    "hact hiddenlayeroutputs ahidden hs hiddenactivations outhidden hh",
    "samples": "m n batchsize numexamples nsamples numsamples nexamples samples bs batch bsz msamples",
    "rate": "lr learningrate eta rate stepsize learnrate alpha step",
    "penalty": "reg lambd lambda lam lmbda lmbd l2 l2reg weightdecay wd reglambda regularization regstrength "
    "l2lambda regularisation lambdareg regcoef lamda l2penalty regparam",
    "epochs": "epochs epoch numiterations niter iterations niters maxiter numiters iters steps nepochs numepochs "
    "nsteps numsteps nepoch maxiters numepoch",
    "inputs": "inputsize nx inputdim nin ninputs inputlayersize numinputs insize indim nfeatures ninput d dim nfeature "
    "infeatures numfeatures nininputs inputnodes nodesin inputunits din",
    "hiddens": "hiddensize nh hiddendim numhidden hiddenlayersize nhidden hdim hiddennodes hiddenunits nhid hsize "
    "units numhiddens nhiddens h nodeshidden",
    "outputs": "outputsize ny outputdim c k numlabels numclasses nout nclasses noutputs noutput outputlayersize "
    "outsize outdim classes nbclasses outputnodes outfeatures outputunits nodesout dout numoutputs",
    "sizes": "sizes layers layersizes layerdims dims layersdims layersize shape architecture arch sizelayers structure "
    "topology layerssizes nnarchitecture nodes",
    "parameters": "parameters params param model theta thetas wts net network nn prm pars dictionary",
    "cache": "cache caches memory store stored forwardcache intermediates activations forward state tape mem acts zs",
    "unrolled": "nnparams thetaunrolled thetavec flat flatparams vec unrolled flattheta rolled vector paramsvec wvec "
    "thetaflat flatweights",
    "weights": "weights ws w weightlist wlist weightmatrices thetas",
    "biases": "biases bs b bias biaslist blist",
}
_NAMED = {name: kind for kind, names in reversed(_KINDS.items()) for name in names.split()}

_WEIGHT = "w|weights?|theta|syn|synapse|wt|wgt|kernel"
_BIAS = "b|bias|biases|bi|th|thr|thresholds?|offsets?|intercepts?"
_FIRST = (
    "i|in|ih|xh|ij|h|hid|hidden|input|inputhidden|inputtohidden|first|one|in2hid|itoh|i2h|x|inhid|fc1|hidden1|h1|l1"
)
_LAST = (
    "o|out|ho|hy|jk|output|hiddenoutput|hiddentooutput|y|last|second|two|hid2out|htoo|h2o|hidout|fc2|outputlayer|l2|"
    "logits|final"
)
_PARAMETER = re.compile(
    rf"(?P<kind>(?P<W>{_WEIGHT})|(?P<b>{_BIAS}))(?:(?P<number>\d)|(?P<pair>01|12|23|34)|(?P<first>{_FIRST})|(?P<last>{_LAST}))?"
)
_NUMBERED = re.compile(rf"(?:l|layer|fc|dense|linear)?(?P<number>\d)(?P<kind>(?P<W>{_WEIGHT})|(?P<b>{_BIAS}))")
# The order of the pieces matters: `hiddenweights` and `outputbias` are as usual as `weights_hidden`.
_BEFORE = re.compile(
    rf"(?:(?P<first>hidden|hiddenlayer|input|inputhidden|first)|(?P<last>output|out|outputlayer|hiddenoutput|final))"
    rf"(?P<kind>(?P<W>{_WEIGHT})|(?P<b>{_BIAS}))"
)
# Biases where there are other weights of the layer: θ may be a threshold as well as all that there is.
_THRESHOLD = re.compile(r"(?:theta|phi)(\w+)|c(\d)")
# Names that tell the kind alone, and the kinds that a name may be taken for and be one of these.
_WEIGHT_LETTER = re.compile(r"[uvwUVWJ]|[uvw]_?[a-z]{1,2}|(?:[uvw]|weights?)_[a-z]+|[UVW]_?\w+")
_BIAS_LETTER = re.compile(r"b|(?:b|c|bias|theta|thr)_?[a-zA-Z]+|B_?\w+")
_UNSURE = ("weights", "biases", "x", "y", "yhat", "outputs")
_GRADIENT_BEFORE = re.compile(
    r"(?:d[ljce]_?d|dloss_?d|partial|gradient|gradients|grads?|nabla|delta|deriv|d|g|dl|dj|dc|dloss)_?(?=[a-z])"
)
_GRADIENT_AFTER = re.compile(r"_?(?:gradients?|grads?|\.grad|delta|update)$")


@dataclass(frozen=True)
class Meaning:
    """What a name stands for.

    Attributes:
        kind: `W`, `b` (a layer's parameters), `z`, `a` (what comes before and after its activation), `x`, `y`, `yhat`,
            or one of the kinds that have no layer.
        layer: from 1; None where the name does not tell, as for `weights`.
        gradient: whether it is the gradient of that.
        zero_based: whether its number counts from 0, as in `W0`.
    """

    kind: str
    layer: int | None = None
    gradient: bool = False
    zero_based: bool = False


def meaning(name: str, depth: int, names: Iterable[str] = ()) -> Meaning | None:
    """What the name of an argument, a key or a variable means in a network of that depth; None where it is unknown.

    Args:
        name: as it is written.
        depth: the number of layers with weights.
        names: the names it stands among: with `W0` there, `W1` is the second layer's.
    """
    plain = _plain(name)
    found = _parameter(plain, depth)
    if (threshold := _THRESHOLD.fullmatch(plain)) and (bias := _parameter(f"b{threshold[1] or threshold[2]}", depth)):
        found = bias if _beside_weights(bias.layer, names, depth) else found
    if found is not None:
        if _counts_from_zero(found, names, depth):
            found = Meaning(found.kind, (found.layer or 0) + 1, zero_based=True)
        return found if found.layer is None or 1 <= found.layer <= depth else None
    if inner := re.fullmatch(r"(z|net|preact|pre|u|s)(\d)", plain):
        return _layered("z", int(inner[2]), depth)
    if inner := re.fullmatch(r"(a|h|hidden|act|out|layer|l|o)(\d)(?:relu|act|out)?", plain):
        if inner[2] == "0":
            return Meaning("x")
        return _layered("a", int(inner[2]), depth)
    kind = _NAMED.get(plain)
    if plain == "bs" and any(_NAMED.get(_plain(other)) == "weights" for other in names):
        kind = "biases"  # and no batch size
    match kind:
        case None:
            return None
        case "z_first":
            return Meaning("z", 1)
        case "z_last":
            return Meaning("z", depth)
        case "a_first":
            return Meaning("a", 1) if depth > 1 else Meaning("yhat")
        case "weights" | "biases" if depth == 1:
            return Meaning("W" if kind == "weights" else "b", 1)
    return Meaning(kind)


def assignments(names: Sequence[str], depth: int) -> Iterator[dict[str, Meaning]]:
    """The layers that names without one may belong to: `w` and `v`, `U` and `V`, `W_up` and `W_down`.

    They are told from other names where there is one weight a layer, and one bias a layer or none.

    Args:
        names: of arguments, attributes or keys, in their order, without those of x and y.
        depth: the number of layers with weights.

    Yields:
        What each of them means; the layers in the order of the names first. Nothing where the names tell their layers.
    """
    found = {name: meaning(name, depth, names) for name in names}
    if depth == 1 or any(each and each.kind == "W" for each in found.values()):
        return
    free = [name for name, each in found.items() if each is None or each.kind in _UNSURE]
    weights = [name for name in free if _WEIGHT_LETTER.fullmatch(name)]
    if len(weights) != depth:
        weights = [name for name in free if len(name) == 1 and name.isupper()]
    biases = [name for name in free if name not in weights and _BIAS_LETTER.fullmatch(name)]
    if len(biases) != depth:
        biases = [name for name in free if name not in weights and len(name) == 1]
    if len(weights) != depth or len(biases) not in (0, depth):
        return
    orders = list(permutations(range(1, depth + 1)))
    for order, other in sorted(product(orders, orders if biases else orders[:1]), key=lambda each: each[0] != each[1]):
        yield {name: Meaning("W", layer) for name, layer in zip(weights, order, strict=True)} | {
            name: Meaning("b", layer) for name, layer in zip(biases, other, strict=False)
        }


def consecutive(labels: Iterable[str], depth: int) -> dict[str, str]:
    """The places among the layers of what stands in a list with more than these: `layers[2].W` after `layers[0].W`.

    Returns:
        By such a label, the one with its place among the layers.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for label in labels:
        if found := re.fullmatch(r"(.*)\[(\d+)\](.*)", label):
            groups.setdefault((found[1], found[3]), []).append(label)
    return {
        label: f"{start}[{place}]{end}"
        for (start, end), some in groups.items()
        for place, label in enumerate(some)
        if len(some) == depth > 1
    }


def layers_named(names: Iterable[str], depth: int) -> dict[str, int]:
    """The layers that such names as `hidden` and `output`, `fc1` and `fc2`, `layer0` and `layer1` stand for, from 1."""
    found: dict[str, int] = {}
    for name in names:
        if numbered := re.fullmatch(r"(?:l|layer|fc|dense|linear|affine|hidden|h)?(\d)", _plain(name)):
            found[name] = int(numbered[1])
        elif each := _parameter(f"w{_plain(name)}", depth) or _parameter(f"{_plain(name)}w", depth):
            found[name] = each.layer or 0
    found = {name: layer + (0 in found.values()) for name, layer in found.items()}
    return found if sorted(found.values()) == list(range(1, depth + 1)) else {}


def sizes_named(names: Sequence[str]) -> dict[str, Meaning]:
    """What the arguments `inputs, hidden, outputs` of a constructor mean: sizes, where all three are there."""
    spelled = {"inputs": "inputs input nin", "hiddens": "hidden hiddens nhidden", "outputs": "outputs output nout"}
    found = {name: Meaning(kind) for kind, words in spelled.items() for name in names if _plain(name) in words.split()}
    return found if len({each.kind for each in found.values()}) == len(spelled) == len(found) else {}


def size_meaning(name: str) -> Meaning | None:
    """What an argument of a constructor means if it is a number of units, for which `H` and `d` may stand."""
    plain = _plain(name)
    if plain in ("dh", "dhid", "dhidden"):  # of anything but a constructor, d_h is a gradient
        return Meaning("hiddens")
    kinds = ("inputs", "hiddens", "outputs", "sizes")
    return next((Meaning(kind) for kind in kinds if plain in _KINDS[kind].split()), None)


def gradient(
    name: str, depth: int, names: Iterable[str] = (), known: Mapping[str, Meaning] = MappingProxyType({})
) -> Meaning | None:
    """What the name of something that is returned means, as a path such as `grads['W1']`, `n.layers[0].dW` or `w1.g`.

    That it is a gradient is told by a prefix or suffix, or not at all: a stepped `n['W1']` looks like `grads['W1']`.
    The `known` names, such as `V`, mean what is told of them; their gradients are `dV`, `gV`, `grad_V`, ….
    """
    last = re.findall(r"[A-Za-z_]\w*", name.removesuffix(".grad"))[-1:]
    for own, means in known.items():
        spelled = re.compile(rf"((?i:d[ljce]_?d|grads?|nabla|delta|d|g)_?)?{own}(_?(?:grad|bar))?")
        if last and (told := spelled.fullmatch(last[0])):
            return Meaning(means.kind, means.layer, bool(told[1] or told[2] or name.endswith(".grad")))
    stem, marked = _stem(name)
    if inner := re.fullmatch(r"delta_?(\d|o|out|output|h|hid|hidden|i)|(output|hidden)_?delta", name.lower()):
        which = inner[1] or inner[2]
        layer = int(which) if which.isdigit() else depth if which[0] == "o" else 1
        return Meaning("z", layer, True) if 1 <= layer <= depth else None
    found = meaning(stem, depth, [_stem(other)[0] for other in names])
    if found is None or found.kind not in ("W", "b", "x", "z", "weights", "biases"):
        return None
    return Meaning(found.kind, found.layer, marked, found.zero_based)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("self."))


def _parameter(plain: str, depth: int) -> Meaning | None:
    found = _PARAMETER.fullmatch(plain) or _NUMBERED.fullmatch(plain) or _BEFORE.fullmatch(plain)
    if found is None:
        return None
    parts = found.groupdict()
    kind = "W" if parts["W"] else "b"
    if parts.get("number"):
        return Meaning(kind, int(parts["number"]))
    if parts.get("pair"):
        return Meaning(kind, int(parts["pair"][1]))
    if parts.get("first"):
        return Meaning(kind, 1)
    if parts.get("last"):
        return Meaning(kind, depth)
    return Meaning(kind, 1) if depth == 1 else None  # without a layer it is a list, or the only one


def _beside_weights(layer: int | None, names: Iterable[str], depth: int) -> bool:
    others = [plain for name in names if not (plain := _plain(name)).startswith("theta")]
    return any((found := _parameter(other, depth)) and (found.kind, found.layer) == ("W", layer) for other in others)


def _counts_from_zero(found: Meaning, names: Iterable[str], depth: int) -> bool:
    if found.layer is None:
        return False
    layers = {each.layer for name in names if (each := _parameter(_plain(name), depth)) and each.kind == found.kind}
    return found.layer == 0 or 0 in layers


def _layered(kind: str, layer: int, depth: int) -> Meaning | None:
    if not 1 <= layer <= depth:
        return None
    return Meaning("yhat") if kind == "a" and layer == depth else Meaning(kind, layer)


def _stem(name: str) -> tuple[str, bool]:
    """The parameter's own name in the path, and whether it is marked as its gradient: `n.layers[0].dW` → w0, True."""
    spelled = name.replace("δ", "delta").replace("∂", "d").replace("∇", "nabla").replace("Δ", "delta")
    parts = [part.lower() for part in re.findall(r"[A-Za-z_]\w*|\d+", spelled)]
    number = ""
    marked = False
    while len(parts) > 1 and (
        parts[-1].isdigit() or parts[-1] in ("g", "grad", "gradient", "data", "value", "values", "t")
    ):
        last = parts.pop()
        number, marked = (last, marked) if last.isdigit() else (number, marked or last[0] == "g")
    stem = parts[-1] if parts else ""
    if (shorter := _GRADIENT_AFTER.sub("", stem)) and shorter != stem:
        stem, marked = shorter, True
    if (before := _GRADIENT_BEFORE.match(stem)) and _is_parameter(stem[before.end() :]):
        stem, marked = stem[before.end() :], True
    if not number and not any(letter.isdigit() for letter in stem):
        number = next((digits[-1] for part in reversed(parts[:-1]) if (digits := re.findall(r"\d", part))), "")
    named = next((f"{part}{stem}" for part in reversed(parts[:-1]) if _BEFORE.fullmatch(_plain(f"{part}{stem}"))), "")
    numbered = f"{stem}{number}" if number or not named else named  # of `hidden.w` the layer is told by `hidden`
    return (numbered if _is_parameter(numbered) else stem), marked


def _is_parameter(stem: str) -> bool:
    plain = _plain(stem)
    return bool(
        _PARAMETER.fullmatch(plain)
        or _NUMBERED.fullmatch(plain)
        or _BEFORE.fullmatch(plain)
        or re.fullmatch(r"z\d?|bs", plain)
        or _NAMED.get(plain) in ("x", "z_first", "z_last", "weights", "biases")
    )
