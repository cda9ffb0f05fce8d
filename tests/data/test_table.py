"""`data=table`: preprocessing of columns, refused files and columns, and new rows."""

import gzip
import io
import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tests.memory import peak_memory

from backhand.config.schema import TableConfig
from backhand.data.table import encode, load_table, read_new_rows
from backhand.errors import UserError

N = 40


def frame(rows=N, seed=0):
    """Numbers, integers, a constant, text, a bool, a text target."""
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "area": draw.normal(50, 20, rows),
            "rooms": draw.integers(1, 6, rows),
            "one": np.ones(rows),
            "city": draw.choice(["Bern", "Chur", "Genf"], rows),
            "lift": draw.choice([True, False], rows),
            "price": draw.normal(1000, 100, rows),
            "kind": np.resize(["house", "flat"], rows),
        }
    )


def written(folder, table, name="t.csv"):
    path = folder / name
    if path.suffix in (".parquet", ".pq"):
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, index=False, sep="\t" if name.endswith(".tsv") else ",")
    return path


def loaded(path, target="price", **keys):
    return load_table(TableConfig(name="table", path=str(path), target=target, **keys))


def refusal(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def in_file_order(data, what):
    ids = torch.cat([rows.ids for rows in data.rows.values()])
    values = torch.cat([getattr(rows, what) for rows in data.rows.values()])
    return values[ids.argsort()]


def columns_of(data):
    return {column["name"]: column for column in data.preprocessing["columns"]}


# Preprocessing


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet", "t.pq", "T.CSV"])
def test_every_file_type_gives_the_same_rows(tmp_path, name):
    data = loaded(written(tmp_path, frame(), name), ignore=["kind"])
    reference = loaded(written(tmp_path, frame(), "reference.csv"), ignore=["kind"])
    assert data.preprocessing == reference.preprocessing
    for split, rows in reference.rows.items():
        assert torch.equal(data.rows[split].ids, rows.ids)
        assert torch.equal(data.rows[split].x, rows.x)
        assert torch.equal(data.rows[split].y, rows.y)


def test_dtypes_shapes_and_info(tmp_path):
    data = loaded(written(tmp_path, frame()), weight="one", ignore=["kind"])
    train = data.rows["train"]
    assert (train.x.dtype, train.y.dtype, train.weight.dtype) == (torch.float32, torch.float64, torch.float64)
    assert (train.ids.dtype, train.y.shape, train.weight.shape) == (torch.int64, (28, 1), (28,))
    assert (data.info.features, data.info.classes, data.info.samples, data.info.outputs) == (7, None, N, 1)
    assert {name: len(rows.x) for name, rows in data.rows.items()} == {"train": 28, "val": 6, "test": 6}
    assert data.class_names == []


def test_ids_are_row_numbers_of_the_file(tmp_path):
    table = frame()
    data = loaded(written(tmp_path, table), weight="one")
    assert torch.equal(in_file_order(data, "ids"), torch.arange(N))
    assert np.array_equal(in_file_order(data, "y")[:, 0], table.price)


def test_without_a_test_fraction_there_is_no_test_split(tmp_path):
    assert set(loaded(written(tmp_path, frame()), test_fraction=0.0).rows) == {"train", "val"}


def test_classes_are_sorted_and_stratified(tmp_path):
    table = frame()
    data = loaded(written(tmp_path, table), target="kind")
    assert data.class_names == ["flat", "house"]
    assert data.info.classes == 2
    assert np.array_equal(in_file_order(data, "y"), (table.kind == "house").astype(int))
    assert data.rows["train"].y.dtype == torch.int64
    assert data.rows["train"].y.bincount().tolist() == [14, 14]


def test_the_preprocessing_is_fitted_only_on_the_training_rows(tmp_path):
    table = frame()
    data = loaded(written(tmp_path, table))
    train = table.iloc[data.rows["train"].ids.numpy()]
    area = columns_of(data)["area"]
    assert area["mean"] == pytest.approx(train.area.mean())
    assert area["std"] == pytest.approx(train.area.std(ddof=0))
    assert abs(area["mean"] - table.area.mean()) > 1e-3
    assert columns_of(data)["one"]["std"] == 1


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(10, 60),
    numbers=st.integers(0, 4),
    texts=st.integers(0, 4),
    missing=st.sampled_from(["mean", "median"]),
)
def test_encoding_equals_scikit_learns_column_transformer(tmp_path_factory, seed, rows, numbers, texts, missing):
    draw = np.random.default_rng(seed)
    table = {f"n{i}": draw.normal(draw.normal(0, 100), 10 ** draw.uniform(-2, 4), rows) for i in range(numbers)}
    table |= {f"t{i}": draw.choice(list("abcde")[: draw.integers(1, 6)], rows) for i in range(texts)}
    table = pd.DataFrame({"whole": draw.integers(-5, 5, rows), **table, "y": draw.normal(size=rows)})
    for name in table.columns[:-1]:
        table[name] = table[name].where(draw.random(rows) > 0.1)
    path = written(tmp_path_factory.mktemp("table"), table, draw.choice(["t.csv", "t.parquet"]))
    data = loaded(path, target="y", missing=missing)
    train = table.iloc[data.rows["train"].ids.numpy()]
    text = SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    transformers = [
        (name, make_pipeline(SimpleImputer(strategy=missing), StandardScaler()), [name])
        if pd.api.types.is_numeric_dtype(table[name])
        else (name, make_pipeline(*text), [name])
        for name in table.columns[:-1]
    ]
    plain = table.astype({name: object for name in table.columns if name.startswith("t")})
    expected = ColumnTransformer(transformers).fit(plain.loc[train.index]).transform(plain)
    assert np.allclose(encode(data.preprocessing, table, "t"), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(in_file_order(data, "x"), encode(data.preprocessing, table, "t"))


def test_a_category_without_training_rows_is_encoded_as_zeros(tmp_path):
    table = frame()
    rare = loaded(written(tmp_path, table)).rows["test"].ids[0].item()
    table.loc[rare, "city"] = "Zug"
    path = written(tmp_path, table)
    data = loaded(path)
    city = columns_of(data)["city"]
    assert (city["categories"], city["held_out"]) == (["Bern", "Chur", "Genf"], ["Zug"])
    assert in_file_order(data, "x")[rare, 3:6].tolist() == [0, 0, 0]
    assert torch.equal(read_new_rows(path, data.preprocessing)[0], in_file_order(data, "x"))


def test_the_preprocessing_survives_torch_save_and_json(tmp_path):
    data = loaded(written(tmp_path, frame()), target="kind", weight="one", missing="median", ignore=["price"])
    torch.save(data.preprocessing, tmp_path / "p.pt")
    assert torch.load(tmp_path / "p.pt", weights_only=True) == data.preprocessing
    assert json.loads(json.dumps(data.preprocessing, allow_nan=False)) == data.preprocessing
    assert data.preprocessing["target"] == "kind"
    assert data.preprocessing["weight"] == "one"
    assert data.preprocessing["ignore"] == ["price"]
    assert data.preprocessing["class_names"] == ["flat", "house"]


@pytest.mark.parametrize(
    ("target", "task", "class_names"),
    [
        (np.resize(["b", "a"], N), "auto", ["a", "b"]),
        (np.resize([True, False], N), "auto", ["False", "True"]),
        (np.resize([0, 1], N), "auto", ["0", "1"]),
        (np.resize([10, 2, 1], N), "auto", ["1", "2", "10"]),
        (np.resize(range(9), N), "auto", []),  # fewer than 5 rows each
        (np.arange(N), "auto", []),
        (np.resize([0.0, 1.0], N), "auto", []),
        (np.resize([0.5, 1.0], N), "classes", ["0.5", "1"]),
        (np.resize([0, 1], N), "number", []),
        (pd.Categorical(np.resize([3, 4], N)), "auto", ["3", "4"]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_target_decides_the_task(tmp_path, target, task, class_names, suffix):
    data = loaded(written(tmp_path, frame().assign(y=target), f"t.{suffix}"), target="y", task=task)
    assert data.class_names == class_names
    assert data.preprocessing["task"] == ("classes" if class_names else "number")


@pytest.mark.parametrize(("classes", "is_classes"), [(20, True), (21, False)])
def test_with_task_auto_up_to_twenty_integers_are_classes(tmp_path, classes, is_classes):
    table = frame(210).assign(y=np.resize(range(classes), 210))
    assert bool(loaded(written(tmp_path, table), target="y").class_names) == is_classes


@pytest.mark.parametrize("missing", ["mean", "median"])
def test_missing_values_are_filled_from_the_training_rows(tmp_path, missing):
    table = frame()
    table.loc[::7, "area"] = np.nan
    table.loc[::5, "city"] = None
    data = loaded(written(tmp_path, table), missing=missing)
    train = table.iloc[data.rows["train"].ids.numpy()]
    assert columns_of(data)["area"]["fill"] == pytest.approx(getattr(train.area, missing)())
    assert columns_of(data)["city"]["fill"] == train.city.mode()[0]
    assert in_file_order(data, "x").isfinite().all()
    assert (in_file_order(data, "x")[:, 3:6].sum(-1) == 1).all()


def test_weights_stay_with_their_rows(tmp_path):
    table = frame().assign(w=np.arange(N) / 2)
    data = loaded(written(tmp_path, table), weight="w")
    assert np.array_equal(in_file_order(data, "weight"), table.w)
    assert "w" not in columns_of(data)


# Refused files and columns


def csv(text):
    return lambda folder: (folder / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())


ROWS = "".join(f"{i},{i % 3},{i * 0.5}\n" for i in range(20))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda folder: None, ["No such file"]),
        (lambda folder: (folder / "t.csv").mkdir(), ["is not a file"]),
        (lambda folder: os.mkfifo(folder / "t.csv"), ["is not a file"]),
        (lambda folder: (folder / "t.csv").symlink_to(folder / "t.csv"), ["symbolic links"]),
        (csv(""), ["has no rows"]),
        (csv("\n\n"), ["has no rows"]),
        (csv("a,b,price"), ["has no rows"]),
        (csv("a,b,price\n"), ["needs 10 rows or more, has 0"]),
        (csv("a,b,price\n1,2,3\n"), ["needs 10 rows or more, has 1"]),
        (csv("price\n" + "1\n" * 20), ["has one column, 'price'"]),
        (csv("a;b;price\n" + "1;2;3\n" * 20), ["has one column, 'a;b;price'", "commas"]),
        (csv("a,b,price\n1,2,3\n1,2\n" + ROWS), ["Row #3", "Expected 3 columns, got 2"]),
        (csv("a,b,price\n1,2,3,4\n" + ROWS), ["Expected 3 columns, got 4"]),
        (csv("a,a,price\n" + ROWS), ["two columns are named 'a'"]),
        (csv("a,,price\n" + ROWS), ["column 2 has no name", "data.ignore=['']"]),
        (csv(b"a,b,price\n1,2,3\n\xe9,2,3\n"), ["line 3 is not UTF-8", "0xe9"]),
        (csv("a,b,price\n".encode("utf-16")), ["not UTF-8"]),
        (csv(b"a,b,price\n1,2,3\n1,\x00,3\n"), ["line 3 has a NUL byte"]),
        (csv(bytes(range(256)) * 50), ["line 1 has a NUL byte"]),
        (csv(b"\x80\x04\x95" + bytes(range(1, 128))), ["not UTF-8"]),
        (csv('a,b,price\n"1,2,3\n' + ROWS), ["Expected 3 columns"]),
    ],
)
def test_a_file_that_is_not_a_table_is_refused_by_its_path(tmp_path, write, words):
    write(tmp_path)
    refusal(lambda: loaded(tmp_path / "t.csv"), f"data.path={tmp_path / 't.csv'}: ", *words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.parquet", b"PAR1 no more", ["cannot be read", "Parquet"]),
        ("t.parquet", b"", ["cannot be read"]),
        ("t.pq", b"a,b\n1,2\n", ["cannot be read"]),
        ("t.csv.gz", b"a,b\n1,2\n", ["cannot be read"]),
        ("t.csv.gz", gzip.compress(ROWS.encode() * 1000, mtime=0)[:200], ["cannot be read"]),
        ("t.xlsx", b"", ["must end in .csv, .tsv"]),
        ("t.pkl", b"", ["must end in"]),
    ],
)
def test_broken_and_foreign_files_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    refusal(lambda: loaded(tmp_path / name), f"data.path={tmp_path / name}: ", *words)


def long_text(path, declared=True):
    """Write a thousand rows that share a text of 1 MB."""
    shared = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 1000), ["x" * (1 << 20)])
    table = pa.table({"a": shared, "price": pa.array(range(1000))})
    pa.parquet.write_table(table, path, dictionary_pagesize_limit=1 << 22, store_schema=declared)


def long_text_undeclared(path):
    """Write it without Arrow's schema, so that only the encoding of the column is a dictionary."""
    long_text(path, declared=False)


def packed_zeros(path):
    """Write a CSV file of 400 MB, 400 kB packed."""
    rows = b"0,0.000000000000000000000000000\n" * (1 << 15)  # of 32 bytes
    path.write_bytes(gzip.compress(b"a,price\n") + gzip.compress(rows) * 400)


@pytest.mark.parametrize("make", [long_text, long_text_undeclared])
def test_a_text_that_many_rows_share_is_stored_once_in_memory(tmp_path, make):
    make(tmp_path / "t.parquet")
    with peak_memory() as peak:
        data = loaded(tmp_path / "t.parquet")
    assert [len(text) for text in columns_of(data)["a"]["categories"]] == [1 << 20]
    assert peak.kib < 100 << 10  # of the 1 GB that it would be a row at a time


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path):
    packed_zeros(tmp_path / "t.csv.gz")
    with peak_memory() as peak:
        refusal(lambda: loaded(tmp_path / "t.csv.gz"), f"data.path={tmp_path / 't.csv.gz'}", "and unpacks to more than")
    assert peak.kib < 100 << 10  # of the 400 MB


def test_more_rows_than_a_file_can_have_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path = written(tmp_path, frame(1000).assign(area=1.0), "t.parquet")
    monkeypatch.setattr("backhand.data.tablefile.MAX_RATIO", 1)
    monkeypatch.setattr("backhand.data.tablefile.MAX_BYTES", 8 * 7 * 1000)
    assert loaded(path).info.samples == 1000
    monkeypatch.setattr("backhand.data.tablefile.MAX_BYTES", 8 * 7 * 1000 - 1)
    refusal(lambda: loaded(path), "and unpacks to more than")


def test_a_broken_page_of_a_parquet_file_is_refused(tmp_path):
    path = written(tmp_path, frame(1000), "t.parquet")
    content = bytearray(path.read_bytes())
    content[4:3000] = b"\xff" * 2996
    path.write_bytes(content)
    refusal(lambda: loaded(path), f"data.path={path}: cannot be read")


def test_a_file_without_permission_is_refused(tmp_path):
    path = written(tmp_path, frame())
    path.chmod(0)
    if os.geteuid() == 0:
        tmp_path.chmod(0o755)
        (tmp_path / "outside").mkdir(mode=0o700)
        path = path.rename(tmp_path / "outside" / "t.csv")
        os.seteuid(65534)
    try:
        refusal(lambda: loaded(path), f"data.path={path}: ", "Permission denied")
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (np.where(np.arange(N) == 7, "abc", np.arange(N).astype(str)), ["mixes", "97.5%", "row 7", "'abc'"]),
        ([f"2024-01-{i % 9 + 1:02}" for i in range(N)], ["dates or times", "data.ignore"]),
        ([f"2024-01-{i % 9 + 1:02}T10:00:00Z" for i in range(N)], ["dates or times"]),
        ([f"2024/1/{i % 9 + 1} 10:00" for i in range(N)], ["dates or times"]),
        (pd.date_range("2024-01-01", periods=N), ["dates or times"]),
        ([f"id{i}" for i in range(N)], ["40 different values in 40 rows", "an id?"]),
        (np.where(np.arange(N) == 3, np.inf, 1.0), ["row 3", "inf", "finite"]),
        (np.where(np.arange(N) == 3, 1e200, 1.0), ["row 3", "1e+200", "finite"]),
        (np.where(np.arange(N) == 3, np.nan, 1.0), ["'x' has 1", "data.missing=mean or median"]),
        ([None] * N, ["'x' has 40", "missing"]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_that_cannot_be_learned_from_is_refused_by_name(tmp_path, column, words, suffix):
    path = written(tmp_path, frame().assign(x=column), f"t.{suffix}")
    refusal(lambda: loaded(path), f"data.path={path}: ", "'x'", *words)


def test_numbers_among_text_are_categories(tmp_path):
    column = np.resize(["1", "2", "low", "3"], N)
    data = loaded(written(tmp_path, frame().assign(x=column)))
    assert columns_of(data)["x"]["categories"] == ["1", "2", "3", "low"]


def test_more_than_a_thousand_categories_are_refused(tmp_path):
    names = np.resize([f"c{i}" for i in range(1001)], 2100)
    refusal(lambda: loaded(written(tmp_path, frame(2100).assign(x=names))), "'x' is text with 1001 different")
    names[names == "c1000"] = "c0"
    column = columns_of(loaded(written(tmp_path, frame(2100).assign(x=names))))["x"]
    assert len(column["categories"] + column["held_out"]) == 1000


@pytest.mark.parametrize("type_", [pa.list_(pa.int64()), pa.binary()])
def test_a_parquet_column_of_other_values_is_refused(tmp_path, type_):
    table = pa.Table.from_pandas(frame(), preserve_index=False)
    value = [1] if pa.types.is_list(type_) else b"x"
    pyarrow.parquet.write_table(table.append_column("x", pa.array([value] * N, type_)), tmp_path / "t.parquet")
    refusal(lambda: loaded(tmp_path / "t.parquet"), "'x'", "not numbers or text")


def test_an_unnamed_pandas_index_is_not_a_column(tmp_path):
    frame().set_index(np.arange(N)[::-1]).rename_axis(None).to_parquet(tmp_path / "t.parquet", index=True)
    assert list(columns_of(loaded(tmp_path / "t.parquet"))) == ["area", "rooms", "one", "city", "lift", "kind"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_name_may_have_a_dot(tmp_path, suffix):
    table = frame()[["area", "price"]].assign(**{"area.x": np.arange(N)})
    data = loaded(written(tmp_path, table, f"t.{suffix}"), ignore=["area.x"])
    assert list(columns_of(data)) == ["area"]
    assert np.array_equal(in_file_order(data, "y")[:, 0], table.price)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"target": "prise"}, ["data.target=prise", "did you mean price?", "'area'"]),
        ({"weight": "onne"}, ["data.weight=onne", "did you mean one?"]),
        ({"ignore": ["citty"]}, ["data.ignore=citty", "did you mean city?"]),
        ({"weight": "price"}, ["data.weight=price", "is the target"]),
        ({"ignore": ["price"]}, ["data.ignore=price", "is the target"]),
        ({"ignore": ["area", "rooms", "one", "city", "lift", "kind"]}, ["no feature columns are left"]),
        ({"target": "kind", "task": "number"}, ["'kind' must hold numbers", "row 0", "'house'"]),
        ({"target": "one", "task": "classes"}, ["data.target=one has only one value, '1'"]),
        ({"target": "one"}, ["data.target=one has only one value"]),
        ({"target": "area", "task": "classes"}, ["data.target=area", "class", "every class needs a row"]),
        ({"weight": "city"}, ["'city' must hold numbers", "row 0"]),
        ({"weight": "lift"}, ["'lift' must hold numbers", "row 0"]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_wrong_role_of_a_column_is_refused(tmp_path, keys, words, suffix):
    path = written(tmp_path, frame(), f"t.{suffix}")
    refusal(lambda: loaded(path, **keys), *words)


def test_too_few_rows_of_a_regression_are_refused_by_number(tmp_path):
    path = written(tmp_path, frame(12))
    message = refusal(lambda: loaded(path, val_fraction=0.01, test_fraction=0.01), "12 rows are too few")
    assert "class" not in message


def test_a_class_without_enough_rows_is_named(tmp_path):
    table = frame()
    table.loc[3, "kind"] = "castle"
    refusal(lambda: loaded(written(tmp_path, table), target="kind"), "class 'castle' has 1 of 40 rows")


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (np.where(np.arange(N) == 4, -1.0, 1.0), ["row 4", "-1", "0 or more"]),
        (np.zeros(N), ["every training row has 0"]),
        (np.where(np.arange(N) == 4, np.inf, 1.0), ["row 4", "finite"]),
        (np.where(np.arange(N) == 4, np.nan, 1.0), ["missing values", "'w' has 1"]),
    ],
)
def test_impossible_weights_are_refused(tmp_path, weight, words):
    refusal(lambda: loaded(written(tmp_path, frame().assign(w=weight)), weight="w", missing="mean"), "'w'", *words)


@pytest.mark.parametrize("target", ["price", "kind"])
def test_missing_targets_are_refused_with_missing_mean_too(tmp_path, target):
    table = frame()
    table.loc[[1, 5], target] = None
    refusal(lambda: loaded(written(tmp_path, table), target=target, missing="mean"), f"'{target}' has 2")


def test_missing_values_are_counted_for_five_columns(tmp_path):
    table = frame().assign(**{f"m{i}": np.where(np.arange(N) < i, np.nan, 1.0) for i in range(8)})
    path = written(tmp_path, table)
    message = refusal(lambda: loaded(path), "'m1' has 1, 'm2' has 2", "'m5' has 5 and 2 more columns have some;")
    assert "m6" not in message


@pytest.mark.parametrize("values", [[1.0, 2.0], ["a", "b"]])
def test_a_column_without_a_value_in_the_training_rows_is_refused(tmp_path, values):
    table = frame()
    train = loaded(written(tmp_path, table)).rows["train"].ids.numpy()
    table["x"] = np.resize(np.array(values, dtype=object), N)
    table.loc[train, "x"] = None
    path = written(tmp_path, table)
    refusal(lambda: loaded(path, missing="mean"), "'x' has no value in the training rows")


def test_a_message_about_a_hostile_file_is_one_line(tmp_path):
    table = frame().assign(**{"x\ny\x1b[31m": np.where(np.arange(N) == 7, "a\nb\x1b", np.arange(N).astype(str))})
    message = refusal(lambda: loaded(written(tmp_path, table)), "mixes")
    assert message.isprintable()


# New rows


@pytest.fixture
def trained(tmp_path):
    return lambda table, **keys: loaded(written(tmp_path, table, "train.csv"), **keys)


def test_reading_the_training_file_as_new_rows_gives_the_training_inputs(tmp_path, trained):
    data = trained(frame(), target="kind")
    x, y, *_ = read_new_rows(tmp_path / "train.csv", data.preprocessing)
    assert torch.equal(x, in_file_order(data, "x"))
    assert torch.equal(y, in_file_order(data, "y"))


def test_new_rows_keep_their_order_and_need_neither_target_nor_ignored_columns(tmp_path, trained):
    data = trained(frame(), weight="one", ignore=["kind"])
    new = frame(7, seed=1)
    x, y, *_ = read_new_rows(written(tmp_path, new), data.preprocessing)
    assert np.array_equal(y[:, 0], new.price)
    assert y.dtype == torch.float64
    expected = (new.area - columns_of(data)["area"]["mean"]) / columns_of(data)["area"]["std"]
    assert np.allclose(x[:, 0], expected)
    bare = new[["lift", "rooms", "city", "area"]]
    again, nothing, *_ = read_new_rows(written(tmp_path, bare), data.preprocessing)
    assert nothing is None
    assert torch.equal(again, x)


def test_the_missing_values_of_new_rows_are_counted(tmp_path, trained):
    data = trained(frame().assign(area=[None, *[2.5] * (N - 1)]), missing="median")
    new = frame(5).assign(area=[1, None, None, 2, 3], city=["Bern", "Bern", None, "Bern", "Bern"])
    filled = read_new_rows(written(tmp_path, new), data.preprocessing).filled
    city = columns_of(data)["city"]["fill"]
    assert filled == f"missing values are filled as in training: 'area' has 2 (2.5), 'city' has 1 ({city!r})"
    assert read_new_rows(written(tmp_path, frame(5)), data.preprocessing).filled == ""


@pytest.mark.parametrize(
    ("training", "new", "code"),
    [
        (["1", "2", "low"], "1", 0),
        (["1", "02", "low"], "02", 0),
        (["2.5", "1", "low"], "2.5", 1),
        (["True", "False"], "True", 1),
        (["true", "false"], "true", 1),
        (["a\nb", "c"], "a\nb", 0),
        (["12:30 h", "12:30"], "12:30", 0),
        (["2024-01-02", "soon"], "2024-01-02", 0),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_categories_with_another_dtype_in_the_new_file_match(tmp_path, trained, training, new, code, suffix):
    data = trained(frame().assign(x=np.resize(training, N)), ignore=["kind"])
    x, *_ = read_new_rows(written(tmp_path, frame(5).assign(x=new), f"new.{suffix}"), data.preprocessing)
    names = columns_of(data)["x"]["categories"]
    assert names[code] == new
    assert x[:, -len(names) :].tolist() == [[float(i == code) for i in range(len(names))]] * 5


@pytest.mark.parametrize("value", [1, 1.0, "1", pd.Categorical(["1"] * 5), pd.Categorical([1] * 5)])
def test_integer_categories_of_any_dtype_match(tmp_path, trained, value):
    data = trained(frame().assign(x=np.resize(["1", "2", "low"], N)))
    new = frame(5).assign(x=value)
    x, *_ = read_new_rows(written(tmp_path, new, "new.parquet"), data.preprocessing)
    assert torch.equal(x, encode(data.preprocessing, new, "t"))
    assert x[:, columns_of_width(data, "x")].tolist() == [[1.0, 0.0, 0.0]] * 5


def columns_of_width(data, name):
    at = 0
    for column in data.preprocessing["columns"]:
        width = len(column.get("categories", [0]))
        if column["name"] == name:
            return slice(at, at + width)
        at += width
    raise KeyError(name)


@pytest.mark.parametrize("target", [[0, 1], ["no", "yes"], ["1", "x"], [True, False]])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_classes_of_new_rows_are_those_of_training(tmp_path, trained, target, suffix):
    data = trained(frame().assign(y=np.resize(np.array(target), N)), target="y")
    new = frame(5).assign(y=np.array([target[1]] * 5))
    _, y, *_ = read_new_rows(written(tmp_path, new, f"new.{suffix}"), data.preprocessing)
    assert y.tolist() == [data.class_names.index(str(target[1]))] * 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns=["area", "city"]), ["lacks 'area', 'city'"]),
        (
            lambda t: t.assign(height=1, depth=1),
            ["has 'height', 'depth'", "unknown=zeros ignores others"],
        ),
        (lambda t: t.drop(columns="area").assign(aera=1), ["lacks 'area', and has 'aera'"]),
        (
            lambda t: t.assign(city=["Bern", "Ulm", "Ulm", "Bonn", "Köln"]),
            ["'city'", "'Ulm', 'Bonn', 'Köln'", "row 1", "unknown=zeros"],
        ),
        (lambda t: t.assign(kind="castle"), ["'kind'", "classes", "'castle'", "'flat', 'house'"]),
        (lambda t: t.assign(kind=["flat", None, "flat", None, "flat"]), ["'kind' has 2"]),
        (lambda t: t.assign(area=["1", "2", "x", "3", "4"]), ["'area' must hold numbers", "row 2", "'x'"]),
        (lambda t: t.assign(area="2024-01-01"), ["'area'", "dates"]),
        (lambda t: t.assign(area=[1, None, 2, 3, 4]), ["'area' has 1", "data.missing=refuse"]),
        (lambda t: t.assign(city=None), ["'city' has 5", "data.missing=refuse"]),
        (lambda t: t.assign(area=np.inf), ["'area'", "row 0", "finite"]),
        (lambda t: t[:0], ["has no rows"]),
    ],
)
def test_new_rows_that_do_not_match_are_refused(tmp_path, trained, change, words):
    preprocessing = trained(frame(), target="kind").preprocessing
    path = written(tmp_path, change(frame(5)), "new.csv")
    refusal(lambda: read_new_rows(path, preprocessing), f"input={path}: ", *words)


def test_a_missing_file_of_new_rows_is_named(tmp_path, trained):
    preprocessing = trained(frame()).preprocessing
    refusal(lambda: read_new_rows(tmp_path / "no.csv", preprocessing), f"input={tmp_path / 'no.csv'}: ", "No such")


def test_with_unknown_zeros_new_columns_and_categories_are_accepted(tmp_path, trained):
    data = trained(frame(), target="kind")
    new = frame(5).assign(city=["Bern", "Ulm", "Ulm", "Bonn", "Chur"])
    known, _, _, nothing, _ = read_new_rows(
        written(tmp_path, frame(5).assign(city="Bern")), data.preprocessing, "zeros"
    )
    path = written(tmp_path, new.assign(height="2024-01-01", depth=None))
    x, y, _, accepted, _ = read_new_rows(path, data.preprocessing, unknown="zeros")
    cities = columns_of_width(data, "city")
    assert x[:, cities].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert torch.equal(x[:, : cities.start], known[:, : cities.start])
    assert torch.equal(x[:, cities.stop :], known[:, cities.stop :])
    assert len(y) == 5
    assert nothing == ""
    assert accepted == (
        "ignored 'height', 'depth', which training did not have; "
        "3 of 5 rows have categories that training did not have, encoded as zeros: 'city' ('Ulm', 'Bonn')"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="area").assign(aera=1), ["lacks 'area'"]),
        (lambda t: t.assign(kind="castle"), ["'kind' has classes", "'castle'"]),
        (lambda t: t.assign(area="far"), ["'area' must hold numbers"]),
        (lambda t: t.assign(city=[None, *["Bern"] * 4]), ["'city' has 1", "data.missing=refuse"]),
    ],
)
def test_unknown_zeros_does_not_accept_missing_columns_or_classes(tmp_path, trained, change, words):
    preprocessing = trained(frame(), target="kind").preprocessing
    path = written(tmp_path, change(frame(5)))
    refusal(lambda: read_new_rows(path, preprocessing, "zeros"), f"input={path}: ", *words)


def test_new_values_beyond_float32_are_refused(tmp_path, trained):
    preprocessing = trained(frame().assign(x=np.arange(N) * 1e-6)).preprocessing
    path = written(tmp_path, frame(5).assign(x=1e37))
    refusal(lambda: read_new_rows(path, preprocessing), "'x'", "row 0", "mean")


def test_missing_values_of_new_rows_are_filled_as_in_training(tmp_path, trained):
    data = trained(frame(), missing="median")
    new = frame(5).assign(area=None, city=None)
    x, *_ = read_new_rows(written(tmp_path, new), data.preprocessing)
    columns = columns_of(data)
    assert np.allclose(x[:, 0], (columns["area"]["fill"] - columns["area"]["mean"]) / columns["area"]["std"])
    assert (x[:, 3 + columns["city"]["categories"].index(columns["city"]["fill"])] == 1).all()


def test_spreadsheet_formulas_are_text(tmp_path):
    table = pd.read_csv(io.StringIO(frame().assign(x=np.resize(["=1+1", "@a", "-b"], N)).to_csv(index=False)))
    assert columns_of(loaded(written(tmp_path, table)))["x"]["categories"] == ["-b", "=1+1", "@a"]


@pytest.mark.parametrize("column", ["area", "city", "lift"])
def test_the_digest_changes_with_every_input(tmp_path, column):
    table = frame()
    before = loaded(written(tmp_path, table)).digest
    assert loaded(written(tmp_path, table)).digest == before
    assert loaded(written(tmp_path, table, "t.parquet")).digest == before
    other = {"area": 51.25, "city": "Genf", "lift": False}[column]
    for row in range(N):
        changed = table.copy()
        changed.loc[row, column] = other
        is_same = table.loc[row, column] == other
        assert (loaded(written(tmp_path, changed)).digest == before) == is_same
