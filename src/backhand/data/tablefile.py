"""A user's CSV or Parquet file as a pandas frame of numbers and categories; all that can be wrong in it by name."""

import gzip
import re
import stat
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from backhand.errors import UserError

Kind = Literal["number", "text", "any"]
SUFFIXES = (".csv", ".tsv", ".csv.gz", ".parquet", ".pq")
# A text column with at least this share of numbers is a numeric one with mistakes in it.
MOSTLY = 0.9
DATE = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?)? ?(Z|[+-]\d{2}:?\d{2})?"
BLOCK = 1 << 24  # bytes; a row of a CSV must fit into one block
# Unpacked, a file has at most so many times its own bytes, or this many of them. A text seldom has 20 times; gzip
# allows 1,000 times, and Parquet any number.
MOST_TIMES, MOST_BYTES = 100, 1 << 28
# pandas' name for an index that had none: no column of the user's.
UNNAMED_INDEX = re.compile(r"__index_level_\d+__")


def read_names(path: str | Path, where: str) -> list[str]:
    """The columns' names in the order of the file.

    Args:
        path: the file; its suffix says what it is.
        where: what a message begins with, such as `data.path=my.csv`.

    Raises:
        UserError: the file is missing, unreadable, not UTF-8, empty, has a column without a name of its own, or has far
            more in it than a file of its size can have.
    """
    path = Path(path)
    with _reading(where):
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{where}: is not a file; must be a file that ends in {', '.join(SUFFIXES)}")
        if not path.name.lower().endswith(SUFFIXES):
            raise UserError(f"{where}: no such kind of file; must end in {', '.join(SUFFIXES)}")
        names = _parquet_names(path, where) if _is_parquet(path) else _csv_names(path, where)
    names = [name for name in names if not UNNAMED_INDEX.fullmatch(name)]
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise UserError(f"{where}: two columns are named {listed(twice)}; every column needs a name of its own")
    return names


def read_columns(
    path: str | Path, where: str, names: Sequence[str], kinds: Mapping[str, Kind], remedy: str = "correct the file"
) -> pd.DataFrame:
    """The named columns: numeric ones as numbers, all others as pandas categories that are text.

    Args:
        path: a file that `read_names` has read.
        where: what a message begins with.
        names: the columns to read.
        kinds: what a column must be where that is known: `number`, `text` (numbers too are read as their text), or
            `any` of the two, which mixed columns are as well. The others are numbers if every value is one.
        remedy: what can be done about a column that is refused.

    Returns:
        (N, columns); float64 or the file's own numeric dtype, and `category`.

    Raises:
        UserError: the lines have unequal lengths, or a column has dates, lists, or text among numbers.
    """
    path = Path(path)
    with _reading(where):
        if _is_parquet(path):
            schema = pyarrow.parquet.read_schema(path)
            types = {name: schema.field(name).type for name in names}
            _refuse_types(types, where, remedy)
            # A text that many rows share is in the file once, and so it is here.
            texts = [name for name, kind in types.items() if _is_text(kind)]
            with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
                table = file.read(columns=list(names)).select(list(names))
        else:
            given = {name: pa.string() for name, kind in kinds.items() if kind == "text" and name in names}
            with _opened(path) as opened:
                table = pyarrow.csv.read_csv(opened, **_csv_options(path, names, given))
            types = dict(zip(names, table.schema.types, strict=True))
            _refuse_types(types, where, remedy)
        frame = table.to_pandas(
            strings_to_categorical=True, self_destruct=True, split_blocks=True, ignore_metadata=True
        )
        del table
        for name, stored in types.items():
            values = frame[name]
            found = _as_kind(values, stored, kinds.get(name), f"{where}: {name!r}", remedy)
            if found is not values:
                frame[name] = found
    # 1,000,000 rows × 50 numbers leave 1.4 GB of parsed text with Arrow, which would add to what comes after.
    pa.default_memory_pool().release_unused()
    return frame


def as_text(value: Any) -> str:
    """A category's name; whole numbers are written without a point, since missing values make floats of integers."""
    return str(int(value)) if isinstance(value, float | np.floating) and value.is_integer() else str(value)


def as_categories(values: pd.Series) -> pd.Series:
    """Values of any kind as pandas categories that are text."""
    values = values.astype("category")
    return values.cat.rename_categories([as_text(value) for value in values.cat.categories])


def listed(values: Iterable[Any], limit: int = 5) -> str:
    """`'a', 'b' and 3 more`."""
    values = [quoted(value) for value in values]
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(values[:limit]) + more


def quoted(value: Any) -> str:
    """A value of the user's in a message: on one line, and not too long."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…{text[0]}"


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


@contextmanager
def _reading(where: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, pa.ArrowException) as error:
        reason = " ".join(str((isinstance(error, OSError) and error.strerror) or error).split())
        if "Empty CSV" in reason:
            raise UserError(f"{where}: has no rows; must have a line of names and a line for each row") from None
        reason = "".join(sign if sign.isprintable() else "?" for sign in reason.removeprefix("CSV parse error: "))
        raise UserError(f"{where}: cannot be read ({reason[:200]}); must be a CSV or Parquet file") from None


def _parquet_names(path: Path, where: str) -> list[str]:
    """The columns' names; Parquet says a value once for any number of rows, and Arrow makes room for all of them."""
    with pyarrow.parquet.ParquetFile(path) as file:
        about = file.metadata  # not by columns: to ask a damaged file for one of them ends the whole program
        groups = (about.row_group(i) for i in range(about.num_row_groups))
        size = max(8 * about.num_rows * about.num_columns, sum(group.total_byte_size for group in groups))
        _refuse_unpacked(size, path.stat().st_size, where)
        return file.schema_arrow.names


def _csv_names(path: Path, where: str) -> list[str]:
    """The columns' names; Arrow unpacks whatever there is, looks at no column that it skips, and names no line."""
    size, packed = 0, path.stat().st_size
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for number, line in enumerate(iter(partial(file.readline, BLOCK), b""), 1):
            size += len(line)
            _refuse_unpacked(size, packed, where)
            if len(line) == BLOCK:
                raise UserError(f"{where}: line {number} has {BLOCK} bytes or more; must have fewer")
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = f"0x{line[error.start]:02x}"
                raise UserError(f"{where}: line {number} is not UTF-8 (byte {byte}); save the file as UTF-8") from None
            if b"\0" in line:
                raise UserError(f"{where}: line {number} has a NUL byte; must be a text file in UTF-8, or Parquet")
    with _opened(path) as opened, pyarrow.csv.open_csv(opened, **_csv_options(path)) as reader:
        return reader.schema.names


def _refuse_unpacked(size: int, packed: int, where: str) -> None:
    if size > (most := max(MOST_TIMES * packed, MOST_BYTES)):
        raise UserError(
            f"{where}: has {packed} bytes, and unpacked more than {most}, which is no table's way; "
            "if it is right, store it as a CSV file that is not packed"
        )


def _opened(path: Path) -> pa.NativeFile:
    return pa.input_stream(str(path), compression="gzip" if path.suffix.lower() == ".gz" else None)


def _csv_options(path: Path, names: Sequence[str] = (), types: Mapping[str, pa.DataType] | None = None) -> dict:
    """For `pyarrow.csv`: `pandas.read_csv` fills a line that is too short, and takes `true` for True.

    With `engine="pyarrow"` it refuses a value of several lines in a file of more than 1 MB.
    """
    return {
        # One thread: only then does Arrow name the row that is too long or too short. It costs nothing on 2 cores.
        "read_options": pyarrow.csv.ReadOptions(block_size=BLOCK, use_threads=False),
        "parse_options": pyarrow.csv.ParseOptions(
            delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True
        ),
        "convert_options": pyarrow.csv.ConvertOptions(
            include_columns=list(names),
            column_types=types,
            # With what pandas takes for a missing value, too. A text column has them as well: `NA` is no category.
            null_values=[*pyarrow.csv.ConvertOptions().null_values, "<NA>", "None"],
            strings_can_be_null=True,
            true_values=[],  # True and False stay text, in the file's own spelling
            false_values=[],
        ),
    }


def _refuse_types(kinds: Mapping[str, pa.DataType], where: str, remedy: str) -> None:
    types = pa.types
    for name, kind in kinds.items():
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if types.is_temporal(kind):
            raise UserError(f"{where}: {name!r} has dates or times; {remedy}")
        is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        if not (is_number or _is_text(kind) or types.is_boolean(kind) or types.is_null(kind)):
            raise UserError(f"{where}: {name!r} has values of type {kind}, not numbers or text; {remedy}")


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _as_kind(values: pd.Series, stored: pa.DataType, kind: Kind | None, what: str, remedy: str) -> pd.Series:
    """The column as numbers, or as categories that are text; `what` names it."""
    if pa.types.is_decimal(stored):
        values = values.astype(np.float64)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return as_categories(values) if kind == "text" else values
    is_declared = pa.types.is_dictionary(stored) or pa.types.is_boolean(stored)
    values = as_categories(values)
    if kind in ("text", "any") or (is_declared and kind is None):
        return values
    texts = values.cat.categories
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    is_text = values.isin(texts[np.isnan(numbers)])
    if kind == "number" and not is_text.any():
        return pd.Series(np.append(numbers, np.nan)[values.cat.codes], name=values.name)
    if kind is None and len(texts) and texts.str.fullmatch(DATE).all():
        raise UserError(f"{what} has dates or times ({quoted(texts[0])}); {remedy}")
    share = 1 - is_text.sum() / max(values.count(), 1)
    if kind == "number" or MOSTLY <= share < 1:
        row = int(is_text.argmax())
        holds = "must hold numbers" if kind == "number" else f"mixes text with numbers ({share:.1%} are numbers)"
        raise UserError(f"{what} {holds}: row {row} (from 0) has {quoted(values[row])}; {remedy}")
    return values
