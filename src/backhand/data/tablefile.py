"""Read CSV and Parquet files into a pandas frame of numbers and categories, with errors that name the place."""

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
# A text column with at least this share of numbers is taken for a numeric column with errors.
MOSTLY_NUMBERS = 0.9
DATE = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?)? ?(Z|[+-]\d{2}:?\d{2})?"
BLOCK = 1 << 24  # bytes; a row of a CSV file must fit into one block
# Largest allowed ratio of unpacked to packed bytes, for files that unpack to more than MAX_BYTES. For text it is
# rarely above 20; gzip allows 1,000, and Parquet any ratio.
MAX_RATIO, MAX_BYTES = 100, 1 << 28
# pandas' column name for an index without a name; the user has no such column.
UNNAMED_INDEX = re.compile(r"__index_level_\d+__")


def read_names(path: str | Path, where: str) -> list[str]:
    """Read the column names, in the order of the file.

    Args:
        path: the file; its suffix decides the format.
        where: the start of error messages, such as `data.path=my.csv`.

    Raises:
        UserError: the file is missing, unreadable, not UTF-8 or empty, two columns have the same name, or it unpacks to
            far more than its size.
    """
    path = Path(path)
    with _read_errors(where):
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{where}: is not a file; must be one that ends in {', '.join(SUFFIXES)}")
        if not path.name.lower().endswith(SUFFIXES):
            raise UserError(f"{where}: unknown file type; must end in {', '.join(SUFFIXES)}")
        names = _parquet_names(path, where) if _is_parquet(path) else _csv_names(path, where)
    names = [name for name in names if not UNNAMED_INDEX.fullmatch(name)]
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise UserError(f"{where}: two columns are named {listed(twice)}; column names must be unique")
    return names


def read_columns(
    path: str | Path, where: str, names: Sequence[str], kinds: Mapping[str, Kind], remedy: str = "correct the file"
) -> pd.DataFrame:
    """Read columns: numeric ones as numbers, all others as pandas categories of text.

    Args:
        path: a file that `read_names` has accepted.
        where: the start of error messages.
        names: the columns to read.
        kinds: what a column must hold, if known: `number`, `text` (numbers are read as text), or `any` (numbers, text
            or both). Any other column is numeric if all its values are numbers.
        remedy: the end of error messages: what to do about a refused column.

    Returns:
        (N, columns); float64 or the file's own numeric dtype, and `category`.

    Raises:
        UserError: lines have different lengths, or a column holds dates, lists, or a mix of text and numbers.
    """
    path = Path(path)
    with _read_errors(where):
        if _is_parquet(path):
            schema = pyarrow.parquet.read_schema(path)
            types = {name: schema.field(name).type for name in names}
            _refuse_types(types, where, remedy)
            # Text that is repeated is stored once in the file, and once in memory.
            texts = [name for name, kind in types.items() if _is_text(kind)]
            with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
                table = file.read(columns=list(names)).select(list(names))
        else:
            given = {name: pa.string() for name, kind in kinds.items() if kind == "text" and name in names}
            with _open(path) as opened:
                table = pyarrow.csv.read_csv(opened, **_csv_options(path, names, given))
            types = dict(zip(names, table.schema.types, strict=True))
            _refuse_types(types, where, remedy)
        frame = table.to_pandas(
            strings_to_categorical=True, self_destruct=True, split_blocks=True, ignore_metadata=True
        )
        del table
        for name, stored in types.items():
            values = frame[name]
            found = _convert(values, stored, kinds.get(name), f"{where}: {name!r}", remedy)
            if found is not values:
                frame[name] = found
    # Arrow keeps 1.4 GB of parsed text for 1,000,000 rows × 50 numbers.
    pa.default_memory_pool().release_unused()
    return frame


def as_text(value: Any) -> str:
    """The name of a category; 3.0 becomes "3", because missing values turn integers into floats."""
    return str(int(value)) if isinstance(value, float | np.floating) and value.is_integer() else str(value)


def as_categories(values: pd.Series) -> pd.Series:
    """Convert values of any dtype to pandas categories of text."""
    values = values.astype("category")
    return values.cat.rename_categories([as_text(value) for value in values.cat.categories])


def listed(values: Iterable[Any], limit: int = 5) -> str:
    """Join values for a message: `'a', 'b' and 3 more`."""
    values = [quoted(value) for value in values]
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(values[:limit]) + more


def quoted(value: Any) -> str:
    """Format a value of the user for a message: one line, at most 60 characters."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…{text[0]}"


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


@contextmanager
def _read_errors(where: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, pa.ArrowException) as error:
        reason = " ".join(str((isinstance(error, OSError) and error.strerror) or error).split())
        if "Empty CSV" in reason:
            raise UserError(f"{where}: has no rows; must have a header line and a line per row") from None
        reason = "".join(sign if sign.isprintable() else "?" for sign in reason.removeprefix("CSV parse error: "))
        raise UserError(f"{where}: cannot be read ({reason[:200]}); must be a CSV or Parquet file") from None


def _parquet_names(path: Path, where: str) -> list[str]:
    """Read the column names; a small Parquet file can repeat one value so often that Arrow runs out of memory."""
    with pyarrow.parquet.ParquetFile(path) as file:
        metadata = file.metadata  # per row group: reading a column's metadata of a damaged file kills the process
        groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
        size = max(8 * metadata.num_rows * metadata.num_columns, sum(group.total_byte_size for group in groups))
        _refuse_unpacked(size, path.stat().st_size, where)
        return file.schema_arrow.names


def _csv_names(path: Path, where: str) -> list[str]:
    """Read the column names and check every line; Arrow has no size limit and names no line in its errors."""
    size, packed = 0, path.stat().st_size
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for number, line in enumerate(iter(partial(file.readline, BLOCK), b""), 1):
            size += len(line)
            _refuse_unpacked(size, packed, where)
            if len(line) == BLOCK:
                raise UserError(f"{where}: line {number} has {BLOCK} bytes or more; must be shorter")
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = f"0x{line[error.start]:02x}"
                raise UserError(f"{where}: line {number} is not UTF-8 (byte {byte}); save the file as UTF-8") from None
            if b"\0" in line:
                raise UserError(f"{where}: line {number} has a NUL byte; must be UTF-8 text, or a Parquet file")
    with _open(path) as opened, pyarrow.csv.open_csv(opened, **_csv_options(path)) as reader:
        return reader.schema.names


def _refuse_unpacked(size: int, packed: int, where: str) -> None:
    if size > (most := max(MAX_RATIO * packed, MAX_BYTES)):
        raise UserError(
            f"{where}: has {packed} bytes and unpacks to more than {most}; "
            "if that is correct, store it as an uncompressed CSV file"
        )


def _open(path: Path) -> pa.NativeFile:
    return pa.input_stream(str(path), compression="gzip" if path.suffix.lower() == ".gz" else None)


def _csv_options(path: Path, names: Sequence[str] = (), types: Mapping[str, pa.DataType] | None = None) -> dict:
    """Options for `pyarrow.csv`.

    `pandas.read_csv` fills lines that are too short and reads `true` as True; with `engine="pyarrow"` it refuses
    values of several lines in files above 1 MB.
    """
    return {
        # With one thread Arrow names the row with the wrong length. It is not slower on 2 cores.
        "read_options": pyarrow.csv.ReadOptions(block_size=BLOCK, use_threads=False),
        "parse_options": pyarrow.csv.ParseOptions(
            delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True
        ),
        "convert_options": pyarrow.csv.ConvertOptions(
            include_columns=list(names),
            column_types=types,
            # Including pandas' missing values. They apply to text columns as well: `NA` is not a category.
            null_values=[*pyarrow.csv.ConvertOptions().null_values, "<NA>", "None"],
            strings_can_be_null=True,
            true_values=[],  # True and False stay text, spelled as in the file
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


def _convert(values: pd.Series, stored: pa.DataType, kind: Kind | None, what: str, remedy: str) -> pd.Series:
    """Convert a column to numbers or to categories of text; `what` starts the error message."""
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
    if kind == "number" or MOSTLY_NUMBERS <= share < 1:
        row = int(is_text.argmax())
        holds = "must hold numbers" if kind == "number" else f"mixes text with numbers ({share:.1%} are numbers)"
        raise UserError(f"{what} {holds}: row {row} (from 0) has {quoted(values[row])}; {remedy}")
    return values
