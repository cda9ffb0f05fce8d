"""A user's CSV or Parquet file as a pandas frame of numbers and categories; all that can be wrong in it by name."""

import codecs
import re
import stat
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from backhand.data.unpacked import most_unpacked
from backhand.errors import UserError

Kind = Literal["number", "text", "any"]
SUFFIXES = (".csv", ".tsv", ".csv.gz", ".parquet", ".pq")
# What pandas takes for a missing value too. A text column has them as well: `NA` is no category.
MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
# A text column with at least this share of numbers is a numeric one with mistakes in it.
MOSTLY = 0.9
DATE = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?)? ?(Z|[+-]\d{2}:?\d{2})?")
BLOCK = 1 << 24  # bytes; a row of a CSV must fit into one block
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
        if _is_parquet(path):
            with pyarrow.parquet.ParquetFile(path) as file:
                _check_size(file, path, where)
                names = file.schema_arrow.names
        else:
            _check_text(path, where)
            with _opened(path) as file, pyarrow.csv.open_csv(file, **_csv_options(path)) as reader:
                names = reader.schema.names
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
            table = _read_parquet(path, where, names, remedy)
        else:
            texts = {name: pa.string() for name, kind in kinds.items() if kind == "text" and name in names}
            with _opened(path) as file:
                table = pyarrow.csv.read_csv(file, **_csv_options(path, names, texts))
        # Out of their table: one of 10,000 columns takes 0.1 s for each that is replaced in it.
        columns = table.columns
        del table
        for i, name in enumerate(names):
            columns[i] = _as_kind(columns[i], kinds.get(name), f"{where}: {name!r}", remedy)
        table = pa.Table.from_arrays(columns, list(names))
        del columns
        frame = table.to_pandas(self_destruct=True, split_blocks=True, ignore_metadata=True)
        del table
    # 1,000,000 rows × 50 numbers leave 1.4 GB of parsed text with Arrow, which would add to what comes after.
    pa.default_memory_pool().release_unused()
    for name in names:
        if frame[name].dtype == "category":
            frame[name] = frame[name].cat.rename_categories([as_text(value) for value in frame[name].cat.categories])
    return frame


def as_text(value: Any) -> str:
    """A category's name; whole numbers are written without a point, since missing values make floats of integers."""
    return str(int(value)) if isinstance(value, float | np.floating) and value.is_integer() else str(value)


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


def _check_size(file: pyarrow.parquet.ParquetFile, path: Path, where: str) -> None:
    """Parquet says a value once for any number of rows, and Arrow makes room for all of them."""
    about = file.metadata  # not by columns: to ask a damaged file for one of them ends the whole program
    groups = (about.row_group(i) for i in range(about.num_row_groups))
    size = max(8 * about.num_rows * about.num_columns, sum(group.total_byte_size for group in groups))
    _check_unpacked(size, path, where)


def _check_unpacked(size: int, path: Path, where: str) -> None:
    if size > (most := most_unpacked(path.stat().st_size)):
        raise UserError(
            f"{where}: has {path.stat().st_size} bytes, and unpacked more than {most}, which is no table's way; "
            "if it is right, store it as a CSV file that is not packed"
        )


def _read_parquet(path: Path, where: str, names: Sequence[str], remedy: str) -> pa.Table:
    """The columns; a text that many rows share is one in the file, and is so here until their length is known."""
    with pyarrow.parquet.ParquetFile(path) as file:
        kinds = {field.name: field.type for field in file.schema_arrow if field.name in names}
    for name, kind in kinds.items():
        if pa.types.is_nested(kind):  # what there is in them is not looked at
            _as_kind(pa.chunked_array([], kind), None, f"{where}: {name!r}", remedy)
    texts = [name for name, kind in kinds.items() if _is_text(kind)]
    with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
        table = file.read(columns=list(names)).select(list(names))
    for i, name in enumerate(names):
        column = table.column(i)
        if pa.types.is_dictionary(column.type) and _is_text(column.type.value_type):
            lengths = 0
            for chunk in column.chunks:
                each = pyarrow.compute.binary_length(chunk.dictionary).cast(pa.int64())
                lengths += pyarrow.compute.sum(each.take(chunk.indices)).as_py() or 0
            _check_unpacked(lengths, path, f"{where}: {name!r}")
        if name in texts:
            table = table.set_column(i, name, column.cast(kinds[name]))
    return table


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _opened(path: Path) -> pa.NativeFile:
    return pa.input_stream(str(path), compression="gzip" if path.suffix.lower() == ".gz" else None)


def _check_text(path: Path, where: str) -> None:
    """Arrow checks the columns that it reads as text alone, and names no line."""
    decoder, line, size = codecs.getincrementaldecoder("utf-8")(), 1, 0
    with _opened(path) as file:
        while True:
            block = file.read(1 << 20)
            size += len(block)
            if path.suffix.lower() == ".gz":
                _check_unpacked(size, path, where)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += error.object.count(b"\n", 0, error.start)
                byte = f"0x{error.object[error.start]:02x}"
                raise UserError(f"{where}: line {line} is not UTF-8 (byte {byte}); save the file as UTF-8") from None
            if (nul := block.find(b"\0")) >= 0:
                line += block.count(b"\n", 0, nul)
                raise UserError(f"{where}: line {line} has a NUL byte; must be a text file in UTF-8, or Parquet")
            if not block:
                return
            line += block.count(b"\n")


def _csv_options(path: Path, names: Sequence[str] = (), types: Mapping[str, pa.DataType] | None = None) -> dict:
    return {
        # One thread: only then does Arrow name the row that is too long or too short. It costs nothing on 2 cores.
        "read_options": pyarrow.csv.ReadOptions(block_size=BLOCK, use_threads=False),
        "parse_options": pyarrow.csv.ParseOptions(
            delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True
        ),
        "convert_options": pyarrow.csv.ConvertOptions(
            include_columns=list(names),
            column_types=types,
            null_values=MISSING,
            strings_can_be_null=True,
            true_values=[],  # True and False stay text, in the file's own spelling
            false_values=[],
        ),
    }


def _as_kind(column: pa.ChunkedArray, kind: Kind | None, what: str, remedy: str) -> pa.ChunkedArray:
    """The column as numbers, or as a dictionary of its categories; `what` names it."""
    types = pa.types
    declared = types.is_dictionary(column.type) or types.is_boolean(column.type)
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_temporal(column.type):
        raise UserError(f"{what} has dates or times; {remedy}")
    if types.is_null(column.type):
        column = column.cast(pa.string() if kind == "text" else pa.float64())
    if types.is_boolean(column.type):
        column = pyarrow.compute.if_else(column, "True", "False")
    is_number = types.is_integer(column.type) or types.is_floating(column.type) or types.is_decimal(column.type)
    if is_number and (kind == "text" or (declared and kind != "number")):
        return column.dictionary_encode()
    if is_number:
        return column.cast(pa.float64()) if types.is_decimal(column.type) else column
    if not (types.is_string(column.type) or types.is_large_string(column.type) or types.is_string_view(column.type)):
        raise UserError(f"{what} has values of type {column.type}, not numbers or text; {remedy}")
    column = column.cast(pa.large_string())
    if kind == "number" or (kind != "text" and not declared):
        numbers = _numbers_in(column, kind, what, remedy)
        if numbers is not None:
            return numbers
    return column.dictionary_encode()


def _numbers_in(column: pa.ChunkedArray, kind: Kind | None, what: str, remedy: str) -> pa.ChunkedArray | None:
    """Text as numbers where that is wanted, None where the text may stay."""
    counts = pyarrow.compute.value_counts(column.drop_null())
    values = np.array(counts.field("values").to_pylist(), dtype=object)
    times = counts.field("counts").to_numpy()
    is_text = np.isnan(pd.to_numeric(values, errors="coerce").astype(np.float64))
    if kind == "number" and not is_text.any():
        return pyarrow.compute.utf8_trim_whitespace(column).cast(pa.float64())
    if kind is None and len(values) and all(DATE.fullmatch(value) for value in values):
        raise UserError(f"{what} has dates or times ({quoted(values[0])}); {remedy}")
    share = times[~is_text].sum() / max(times.sum(), 1)
    if kind == "number" or (kind is None and is_text.any() and share >= MOSTLY):
        row = pyarrow.compute.index(pyarrow.compute.is_in(column, pa.array(values[is_text], pa.large_string())), True)
        first = quoted(column[row.as_py()].as_py())
        holds = "must hold numbers" if kind == "number" else f"mixes text with numbers ({share:.1%} are numbers)"
        raise UserError(f"{what} {holds}: row {row} (from 0) has {first}; {remedy}")
    return None
