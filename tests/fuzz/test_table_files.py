"""Whatever is in a file, `load_table` reads it or says in one line what is wrong with it, in little memory."""

import gzip
import io
import random
from collections.abc import Callable
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.conftest import FEW, MANY, examples
from tests.memory import peak_memory

from backhand.config.errors import one_line
from backhand.config.schema import TableConfig
from backhand.data.dataset import Dataset
from backhand.data.table import load_table
from backhand.errors import UserError

KIBIBYTES = 1 << 20  # beyond what the process had: far above what a file here needs

words = st.sampled_from(
    ["a", "b", "y", "", " ", "NA", "nan", "inf", "-inf", "1e400", "1e39", "0x1", "True", "2024-01-02"]
)
fields = st.one_of(
    words,
    st.integers(-3, 3).map(str),
    st.floats(width=32).map(str),
    st.integers().map(str),
    st.text(st.characters(codec="utf-8"), max_size=6),
    st.sampled_from(
        ['"', '""', '"a', '"a,b"', '"a\nb"', "'", "\\", "\t", ";", "\r", "\0", "\ufeff", "1.5.2", "1,5", "٣"]
    ),
)


def random_column(seed: int) -> list[str]:
    """Thirty numbers, whole numbers or words with nothing wrong; Hypothesis's own are mostly alike."""
    chance = random.Random(seed)
    kind = chance.choice([chance.random, lambda: chance.randrange(4), lambda: chance.choice(["no", "yes", "it's"])])
    return [str(kind()) for _ in range(30)]


usual = st.integers(0, 1 << 30).map(random_column)
columns = st.one_of(
    usual,
    usual,
    usual,
    usual,
    st.lists(st.integers(0, 5).map(str), min_size=12, max_size=40),
    st.lists(st.floats(-1e3, 1e3).map(str), min_size=12, max_size=40),
    st.lists(st.sampled_from(["no", "yes", "", "NA"]), min_size=12, max_size=40),
    st.lists(fields, min_size=1, max_size=40),
)


@st.composite
def csvs(draw) -> bytes:
    """Mostly a table: a header, columns of one kind each, and sometimes fields, lines and encodings that do not fit."""
    parts = draw(st.lists(columns, min_size=draw(st.sampled_from([1, 2, 2])), max_size=5))
    rows = max(map(len, parts)) if draw(st.booleans()) else min(map(len, parts))
    usual_names = st.just(["a", "b", "c", "d", "y"][-len(parts) :])
    names = draw(st.one_of(usual_names, usual_names, usual_names, st.lists(fields, max_size=6)))
    lines = [",".join(names)] + [",".join(part[i % len(part)] for part in parts) for i in range(rows)]
    if draw(st.integers(0, 4)) == 0:
        lines.insert(draw(st.integers(0, len(lines))), draw(st.lists(fields, max_size=7).map(",".join)))
    text = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])).join(lines)
    encoding = draw(st.sampled_from([*["utf-8"] * 12, "utf-8-sig", "utf-16", "utf-32", "latin-1"]))
    return text.encode(encoding, "replace")


# Parquet's kinds of columns: a type, and a value for each small whole number.
KINDS: list[tuple[pa.DataType, Callable[[int], object]]] = [
    *((type_, int) for type_ in (pa.int8(), pa.int64(), pa.uint64())),
    *((type_, float) for type_ in (pa.float32(), pa.float64())),
    *((type_, str) for type_ in (pa.string(), pa.large_string(), pa.string_view())),
    (pa.float16(), np.float16),
    (pa.float64(), lambda n: [0.5, np.nan, np.inf, -1e30, 1e-300][n % 5]),
    (pa.string(), lambda n: f"{n}" if n else "one"),
    (pa.string(), lambda n: f"2024-01-{n + 1:02}"),
    (pa.string(), lambda n: "\0\n\x1b\ufeff" * n),
    (pa.bool_(), lambda n: n % 2 == 0),
    (pa.null(), lambda n: None),
    (pa.binary(), lambda n: b"\xff" * n),
    (pa.binary(3), lambda n: b"%03d" % n),
    (pa.decimal128(38, 3), Decimal),
    (pa.decimal256(60, 0), lambda n: Decimal(10) ** (50 + n % 9)),
    (pa.date32(), lambda n: date(2024, 1, n + 1)),
    (pa.timestamp("ns"), int),
    (pa.timestamp("us", "UTC"), int),
    (pa.time64("us"), int),
    (pa.duration("s"), int),
    (pa.list_(pa.int8()), lambda n: [n] * n),
    (pa.struct([("u", pa.int8())]), lambda n: {"u": n}),
    (pa.map_(pa.string(), pa.int8()), lambda n: [("u", n)]),
    (pa.dictionary(pa.int8(), pa.string()), str),
    (pa.dictionary(pa.int32(), pa.int64()), int),
]


@st.composite
def parquets(draw) -> bytes:
    """Columns of any kind, with missing values or without."""
    rows = draw(st.sampled_from([0, 1, 12, 30, 30]))
    chance = random.Random(draw(st.integers(0, 1 << 30)))
    arrays = []
    for type_, value in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4)):
        most, missing = chance.choice([2, 5, 28]), chance.choice([0, 0, 0, 0.1])
        values = [None if chance.random() < missing else value(chance.randrange(most)) for _ in range(rows)]
        arrays.append(pa.array(values, type_))
    names = draw(st.one_of(st.just(["a", "b", "c", "y"][-len(arrays) :]), st.lists(words, min_size=4, max_size=4)))
    sink = io.BytesIO()
    table = pa.Table.from_arrays(arrays, names[: len(arrays)])
    pyarrow.parquet.write_table(table, sink, compression=draw(st.sampled_from(["none", "snappy", "zstd"])))
    return sink.getvalue()


def good(suffix: str) -> bytes:
    """A file with nothing wrong in it, for others to be made of."""
    frame = pd.DataFrame({"a": np.arange(30) % 7, "b": np.resize(["u", "v"], 30), "y": np.arange(30) / 3})
    if suffix == ".parquet":
        return frame.to_parquet(index=False)
    return frame.to_csv(index=False).encode()


@st.composite
def damaged(draw, source) -> bytes:
    """A file with bytes changed, left out, put in, or all of them from some place on."""
    content = bytearray(draw(source))
    chance = random.Random(draw(st.integers(0, 1 << 30)))
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at = chance.randrange(len(content) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            content[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del content[at : at + chance.randrange(1, 9)]
        elif kind == 2:
            content[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif kind == 3:
            content[at : at + 4] = chance.choice([b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\xff\xff\xff\xff", b"PAR1"])
        elif chance.randrange(4) == 0:
            del content[at:]
    return bytes(content)


files = st.one_of(
    *[st.tuples(st.just(".csv"), csvs())] * 4,
    st.tuples(st.sampled_from([".csv", ".tsv", ".parquet"]), st.binary(max_size=200)),
    st.tuples(st.just(".csv"), damaged(st.one_of(csvs(), st.just(good(".csv"))))),
    st.tuples(st.just(".csv.gz"), damaged(csvs().map(gzip.compress))),
    st.tuples(st.just(".csv.gz"), csvs().map(gzip.compress)),
    *[st.tuples(st.just(".parquet"), parquets())] * 4,
    st.tuples(st.just(".parquet"), damaged(st.one_of(parquets(), st.just(good(".parquet"))))),
    st.tuples(st.just(".parquet"), damaged(st.just(good(".parquet")))),
    st.tuples(st.just(".csv"), parquets()),
    st.tuples(st.just(".parquet"), csvs()),
)
keys = st.fixed_dictionaries(
    {
        "target": st.sampled_from([*["y"] * 12, "a", "", "no such"]),
        "missing": st.sampled_from(["refuse", "mean", "median"]),
        "task": st.sampled_from(["auto", "auto", "classes", "number"]),
        "weight": st.sampled_from([*[None] * 12, "a", "b", "y"]),
        "ignore": st.sampled_from([*[[]] * 12, ["a"], ["b", "c"], [""]]),
    }
)


def check(folder, suffix: str, content: bytes, settings: dict) -> None:
    path = folder / f"t{suffix}"
    path.write_bytes(content)
    said = ""
    with peak_memory() as peak:
        try:
            answer = load_table(TableConfig(name="table", path=str(path), **settings))
        except UserError as error:
            said = one_line(error)
        else:
            assert isinstance(answer, Dataset)
            assert all(rows.x.isfinite().all() and rows.y.isfinite().all() for rows in answer.rows.values())
    assert said.isprintable(), said
    assert len(said) < 1500
    assert peak.kib < KIBIBYTES


def test_any_file_is_a_table_or_is_refused_in_one_line(tmp_path):
    examples(FEW)(given(files, keys)(lambda file, settings: check(tmp_path, *file, settings)))()


@pytest.mark.stress
def test_any_of_many_files_is_a_table_or_is_refused_in_one_line(tmp_path):
    examples(MANY)(given(files, keys)(lambda file, settings: check(tmp_path, *file, settings)))()


@pytest.mark.parametrize(("place", "value"), [(-1546, 32), (-1547, 9), (-1648, 32)])
def test_a_parquet_file_with_a_damaged_footer_ends_no_program(tmp_path, place, value):
    content = bytearray(good(".parquet"))
    content[place] = value  # found by trying all; Arrow ends the process where it is asked for this column's sizes
    check(tmp_path, ".parquet", bytes(content), {"target": "y"})
