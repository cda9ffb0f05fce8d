"""`data=table`: preprocess the columns of a CSV or Parquet file, for training and for new rows."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.preprocessing import StandardScaler

from backhand.calculus.choices import closest
from backhand.config.dataset_info import DatasetInfo
from backhand.config.schema import TableConfig
from backhand.data.dataset import Dataset, Rows, split_rows
from backhand.data.tablefile import Kind, as_categories, as_text, listed, quoted, read_columns, read_names
from backhand.errors import UserError

MIN_ROWS = 10
MAX_CATEGORIES = 1000
MAX_INTEGER_CLASSES = 20  # with task=auto
MIN_ROWS_PER_CLASS = 5  # on average, with task=auto
MAX_VALUE = 1e38  # the largest float32 is 3.4e38
REMEDY = "leave it out with data.ignore, or turn it into numbers"


def load_table(settings: TableConfig) -> Dataset:
    """Read the file, split its rows, and fit the preprocessing on the training rows.

    With `task=auto` it is a classification if the target is text, or has at most 20 different integers with 5 rows
    each on average; otherwise a regression.

    Returns:
        x float32 (N, D), y class numbers (N,) or float64 values (N, 1), weight float64 (N,) or None; ids are row
        numbers in the file, from 0.

    Raises:
        UserError: the file, a column or a value is not valid.
    """
    where = f"data.path={settings.path}"
    names = read_names(settings.path, where)
    features, target, weight = _roles(settings, names, where)
    kinds: dict[str, Kind] = {}
    if settings.task != "auto":
        kinds[target] = "number" if settings.task == "number" else "any"
    if weight is not None:
        kinds[weight] = "number"
    columns = [*features, target] if weight is None else [*features, target, weight]
    frame = read_columns(settings.path, where, columns, kinds, REMEDY)
    if len(frame) < MIN_ROWS:
        raise UserError(f"{where}: needs {MIN_ROWS} rows or more, has {len(frame)}")

    _refuse_missing(frame, [target] if weight is None else [target, weight], where, "must be given for every row")
    if settings.missing == "refuse":
        allowed = "fill them in with data.missing=mean or median, or leave columns out with data.ignore"
        _refuse_missing(frame, features, where, allowed)
    _refuse_infinite(frame, where)
    _refuse_ids(frame, features, where)
    class_names = _class_names(frame[target], settings, where)
    y = _targets(frame[target], class_names)
    split = _split(y.numpy() if class_names else None, class_names, len(frame), settings)
    weights = None if weight is None else _weights(frame[weight], split["train"], where)

    preprocessing = {
        "columns": [_fit(name, frame[name], split["train"], settings.missing, where) for name in features],
        "missing": settings.missing,
        "target": target,
        "target_kind": _kind(frame[target]),
        "task": "classes" if class_names else "number",
        "class_names": class_names,
        "weight": weight,
        "ignore": list(settings.ignore),
    }
    x = encode(preprocessing, frame, where)
    info = DatasetInfo(features=x.shape[1], classes=len(class_names) or None, samples=len(frame), outputs=1)
    checksum = zlib.crc32(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    del frame
    rows = {
        name: Rows(torch.from_numpy(ids), x[ids], y[ids], None if weights is None else weights[ids])
        for name, ids in split.items()
    }
    return Dataset(rows, info, class_names, preprocessing=preprocessing, checksum=checksum)


class NewRows(NamedTuple):
    """New rows, in the order of their file.

    Attributes:
        x: inputs of the network, float32 (N, D).
        y: class numbers (N,) or float64 values (N, 1); None if the file has no target.
        weight: float64 (N,); None if the file has no weights.
        accepted: a message about columns and categories that training did not have; "" if there are none.
        filled: a message about missing values; "" if there are none.
    """

    x: torch.Tensor
    y: torch.Tensor | None
    weight: torch.Tensor | None
    accepted: str
    filled: str


def encode(preprocessing: dict[str, Any], frame: pd.DataFrame, where: str) -> torch.Tensor:
    """Apply the fitted preprocessing: (v − mean) / std for numbers, one-hot encoding for text.

    Missing values are filled as in training. Categories that no training row had are encoded as zeros, as in
    `OneHotEncoder(handle_unknown="ignore")`.

    Args:
        preprocessing: `Dataset.preprocessing`.
        frame: the feature columns, and any others, in any order and dtype.
        where: the start of error messages.

    Returns:
        float32 (N, D); columns in the order of `preprocessing`.

    Raises:
        UserError: a standardised number is too large for float32.
    """
    x = np.zeros((len(frame), sum(len(c.get("categories", [0])) for c in preprocessing["columns"])), np.float32)
    at = 0
    for column in preprocessing["columns"]:
        name, values = column["name"], frame[column["name"]]
        if column["kind"] == "text":
            codes = _codes(values, column["categories"], column["fill"])
            known = np.flatnonzero(codes >= 0)
            x[known, at + codes[known]] = 1
            at += len(column["categories"])
            continue
        numbers = values.to_numpy(np.float64, na_value=np.nan)
        if column["fill"] is not None:
            numbers = np.where(np.isnan(numbers), column["fill"], numbers)
        with np.errstate(over="ignore"):
            x[:, at] = (numbers - column["mean"]) / column["std"]
        if len(beyond := np.flatnonzero(~np.isfinite(x[:, at]))):
            found = f"row {beyond[0]} (from 0) is {values.iloc[beyond[0]]}"
            allowed = f"must be nearer to the training rows' mean {column['mean']:g} (std {column['std']:g})"
            raise UserError(f"{where}: {name!r}: {found}; {allowed}")
        at += 1
    return torch.from_numpy(x)


def read_new_rows(path: str | Path, preprocessing: dict[str, Any], unknown: str = "refuse") -> NewRows:
    """Read new rows for a network that was trained with this preprocessing.

    Args:
        path: a CSV or Parquet file with the feature columns; target, weight and ignored columns are optional.
        preprocessing: `Dataset.preprocessing`.
        unknown: `refuse` to refuse columns and categories that training did not have; `zeros` to ignore such columns
            and encode such categories as zeros.

    Raises:
        UserError: as for `load_table`; or a column is missing, a class is unknown, or `unknown` is `refuse` and
            something is unknown.
    """
    where = f"input={path}"
    names = read_names(path, where)
    features: list[str] = [column["name"] for column in preprocessing["columns"]]
    target, class_names = preprocessing["target"], preprocessing["class_names"]
    accepted = _check_columns(names, features, preprocessing, unknown, where)

    kinds: dict[str, Kind] = {column["name"]: column["kind"] for column in preprocessing["columns"]}
    kinds[target] = preprocessing["target_kind"]
    weight = preprocessing["weight"] if preprocessing["weight"] in names else None
    if weight is not None:
        kinds[weight] = "number"
    extra = [name for name in (target, weight) if name in names]
    frame = read_columns(path, where, [*features, *extra], kinds, "must be as in training")
    if frame.empty:
        raise UserError(f"{where}: has no rows; needs 1 or more")
    if extra:
        _refuse_missing(frame, extra, where, "must be given for every row, or for none: leave the column out")
    if preprocessing["missing"] == "refuse":
        _refuse_missing(frame, features, where, "the run was trained with data.missing=refuse")
    _refuse_infinite(frame, where)
    accepted += _check_categories(frame, preprocessing, unknown, where)
    x = encode(preprocessing, frame, where)
    weights = None if weight is None else _weights(frame[weight], np.arange(len(frame)), where)
    y = None
    if target in names:
        if class_names:
            classes = as_categories(frame[target])
            if (new := _unseen(classes, class_names)).any():
                raise _unseen_error(classes, new, class_names, f"{where}: {target!r} has classes")
        y = _targets(frame[target], class_names)
    return NewRows(x, y, weights, "; ".join(accepted), _filled(frame, preprocessing["columns"]))


def _filled(frame: pd.DataFrame, columns: list[dict[str, Any]]) -> str:
    """A message about the missing values and what they are filled with; "" if there are none."""
    counts = {column["name"]: int(frame[column["name"]].isna().sum()) for column in columns}
    fills = {column["name"]: column["fill"] for column in columns if counts[column["name"]]}
    found = [
        f"{quoted(name)} has {counts[name]} ({quoted(fill) if isinstance(fill, str) else f'{fill:g}'})"
        for name, fill in fills.items()
    ]
    more = f" and {len(found) - 5} more columns have some" if len(found) > 5 else ""
    return f"missing values are filled as in training: {', '.join(found[:5])}{more}" if found else ""


def _check_columns(
    names: list[str], features: list[str], preprocessing: dict[str, Any], unknown: str, where: str
) -> list[str]:
    """Check the columns; return a message if new ones are ignored."""
    absent = [name for name in features if name not in names]
    known = {*features, preprocessing["target"], preprocessing["weight"], *preprocessing["ignore"]}
    new = [name for name in names if name not in known]
    if absent or (new and unknown == "refuse"):
        found = [f"lacks {listed(absent, len(absent))}"] if absent else []
        found += [f"has {listed(new, len(new))}, which training did not have"] if new else []
        more = " (unknown=zeros ignores others)" if new else ""
        raise UserError(f"{where}: {', and '.join(found)}; must have the columns that the run was trained on{more}")
    return [f"ignored {listed(new)}, which training did not have"] if new else []


def _check_categories(frame: pd.DataFrame, preprocessing: dict[str, Any], unknown: str, where: str) -> list[str]:
    """Check the categories; return a message if new ones are encoded as zeros."""
    rows, found = np.zeros(len(frame), bool), []
    for column in preprocessing["columns"]:
        if column["kind"] == "text":
            name, seen = column["name"], column["categories"] + column["held_out"]
            new = _unseen(frame[name], seen)
            if new.any() and unknown == "refuse":
                more = " (unknown=zeros encodes others as zeros)"
                raise _unseen_error(frame[name], new, seen, f"{where}: {name!r} has categories", more)
            if new.any():
                rows |= new
                found.append(f"{name!r} ({listed(frame[name][new].unique(), 3)})")
    if not found:
        return []
    count = f"{rows.sum():,} of {len(rows):,} rows"
    return [f"{count} have categories that training did not have, encoded as zeros: {', '.join(found)}"]


def _roles(settings: TableConfig, names: list[str], where: str) -> tuple[list[str], str, str | None]:
    """The names of the feature columns, the target and the weight."""
    ignore = list(settings.ignore)
    if len(names) == 1:
        raise UserError(f"{where}: has one column, {quoted(names[0])}; needs two or more, separated by commas")
    for key, name in [("target", settings.target), ("weight", settings.weight), *(("ignore", name) for name in ignore)]:
        if name is not None and name not in names:
            has = f"{settings.path} has {listed(names, 20)}"
            raise UserError(f"data.{key}={name}: no such column{closest(name, names)}; {has}")
    if settings.weight == settings.target:
        raise UserError(f"data.weight={settings.weight}: is the target; must be another column")
    if both := {settings.target, settings.weight} & set(ignore):
        raise UserError(f"data.ignore={min(map(str, both))}: is the target or the weight; must be another column")
    features = [name for name in names if name not in (settings.target, settings.weight, *ignore)]
    if not features:
        raise UserError(f"{where}: no feature columns are left; needs one or more")
    if "" in features:
        number = names.index("") + 1
        allowed = "name it, or leave it out with data.ignore=['']"
        raise UserError(f"{where}: column {number} has no name (an index that pandas wrote?); {allowed}")
    return features, settings.target, settings.weight


def _kind(values: pd.Series) -> Kind:
    return "text" if values.dtype == "category" else "number"


def _refuse_missing(frame: pd.DataFrame, names: Iterable[str], where: str, allowed: str) -> None:
    counts = {name: count for name in names if (count := int(frame[name].isna().sum()))}
    if counts:
        found = [f"{name!r} has {count}" for name, count in counts.items()]
        more = f" and {len(found) - 5} more columns have some" if len(found) > 5 else ""
        raise UserError(f"{where}: missing values: {', '.join(found[:5])}{more}; {allowed}")


def _refuse_infinite(frame: pd.DataFrame, where: str) -> None:
    for name in frame:
        if _kind(frame[name]) == "number":
            beyond = np.flatnonzero(np.abs(frame[name].to_numpy(np.float64)) > MAX_VALUE)
            if len(beyond):
                value = f"row {beyond[0]} (from 0) is {frame[name].iloc[beyond[0]]}"
                raise UserError(f"{where}: {name!r}: {value}; must be finite and at most {MAX_VALUE:g}")


def _refuse_ids(frame: pd.DataFrame, features: list[str], where: str) -> None:
    """Refuse text columns with too many categories, such as ids."""
    for name in features:
        if _kind(frame[name]) == "text":
            different, rows = len(frame[name].cat.categories), int(frame[name].notna().sum())
            if different > MAX_CATEGORIES or different == rows > 0:
                found = f"is text with {different} different values in {rows} rows (an id?)"
                raise UserError(f"{where}: {name!r} {found}; at most {MAX_CATEGORIES} are allowed: {REMEDY}")


def _unseen(values: pd.Series, seen: list[str]) -> np.ndarray:
    return (values.notna() & ~values.isin(seen)).to_numpy()


def _unseen_error(values: pd.Series, new: np.ndarray, seen: list[str], what: str, more: str = "") -> UserError:
    found = f"that were not in training, {listed(values[new].unique(), 3)}, first in row {new.argmax()} (from 0)"
    return UserError(f"{what} {found}; must be of {listed(seen, 10)}{more}")


def _class_names(target: pd.Series, settings: TableConfig, where: str) -> list[str]:
    """Sorted class names, numbers by value; [] for a regression."""
    different = target.cat.categories if _kind(target) == "text" else np.unique(target)
    if len(different) < 2:
        found = f"has only one value, {listed(map(as_text, different))}"
        raise UserError(f"{where}: data.target={settings.target} {found}; needs two or more")
    few = len(different) <= min(MAX_INTEGER_CLASSES, len(target) / MIN_ROWS_PER_CLASS)
    whole = _kind(target) == "number" and np.issubdtype(target.dtype, np.integer)
    is_auto = settings.task == "auto"
    if settings.task == "number" or (is_auto and _kind(target) == "number" and not (whole and few)):
        return []
    if len(different) > MAX_CATEGORIES:
        allowed = "data.task=number for a regression" if _kind(target) == "number" else "is it an id?"
        found = f"has {len(different)} classes; at most {MAX_CATEGORIES} are allowed"
        raise UserError(f"{where}: data.target={settings.target} {found}; {allowed}")
    return [as_text(value) for value in sorted(different)]


def _targets(target: pd.Series, class_names: list[str]) -> torch.Tensor:
    if class_names:
        return torch.from_numpy(_codes(target, class_names).astype(np.int64))
    return torch.from_numpy(target.to_numpy(np.float64, copy=True)).unsqueeze(-1)


def _split(y: np.ndarray | None, class_names: list[str], rows: int, settings: TableConfig) -> dict[Any, np.ndarray]:
    try:
        return split_rows(y, rows, settings.val_fraction, settings.test_fraction, settings.split_seed)
    except UserError as error:
        if y is None:
            raise
        counts = np.bincount(y, minlength=len(class_names))
        rarest = f"{class_names[counts.argmin()]!r} has {counts.min()}"
        raise UserError(f"data.target={settings.target}: class {rarest} of {rows} rows; {error}") from None


def _weights(values: pd.Series, train: np.ndarray, where: str) -> torch.Tensor:
    weights = values.to_numpy(np.float64, copy=True)
    allowed = "must be 0 or more, and not all 0 in the training rows"
    if (weights < 0).any():
        row = int(np.flatnonzero(weights < 0)[0])
        raise UserError(f"{where}: weight {values.name!r}: row {row} (from 0) is {values.iloc[row]}; {allowed}")
    if not weights[train].any():
        raise UserError(f"{where}: weight {values.name!r}: every training row has 0; {allowed}")
    return torch.from_numpy(weights)


def _fit(name: str, values: pd.Series, train: np.ndarray, missing: str | None, where: str) -> dict[str, Any]:
    """Fit the preprocessing of a column on the training rows; returns plain names and numbers."""
    known, fills = values.iloc[train].dropna(), missing in ("mean", "median")
    if known.empty:
        raise UserError(f"{where}: {name!r} has no value in the training rows; leave it out with data.ignore")
    if _kind(values) == "text":
        texts = known.astype(object)
        categories = sorted(texts.unique())
        held_out = sorted(set(values.cat.categories) - set(categories))
        fill = texts.mode()[0] if fills else None
        return {"name": name, "kind": "text", "categories": categories, "held_out": held_out, "fill": fill}
    numbers = values.iloc[train].astype(np.float64)
    fill = float(numbers.agg(missing)) if fills else None
    numbers = numbers if fill is None else numbers.fillna(fill)
    scaler = StandardScaler().fit(numbers.to_numpy().reshape(-1, 1))  # divides by 1 if all values are equal
    mean, std = float(scaler.mean_[0]), float(scaler.scale_[0])
    return {"name": name, "kind": "number", "mean": mean, "std": std, "fill": fill}


def _codes(values: pd.Series, names: list[str], fill: str | None = None) -> np.ndarray:
    """The index of each value in `names`; −1 for other values, and for missing ones without a fill."""
    values = values.astype("category")
    place = {name: i for i, name in enumerate(names)}
    places = [place.get(as_text(value), -1) for value in values.cat.categories]
    # pandas' code of a missing value is −1: the last entry
    return np.array([*places, -1 if fill is None else place[fill]])[values.cat.codes]
