"""Files that are larger than they look: refused before there is room made for what they say they hold."""

import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

import yaml
from yaml import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    SafeLoader,
    ScalarEvent,
    YAMLError,
)

from backhand.errors import UserError

# Unpacked, a file of data has at most so many times its own bytes, or this many of them. A text seldom has 20 times;
# what can be read again and again from a few bytes (gzip: 1,000 times, Parquet: any number) is limited by it.
DATA_TIMES, DATA_BYTES = 100, 1 << 28
# A checkpoint's members are stored as they are, so their sizes add up to the file's, but for names and padding.
MOST_TIMES = 4
# Of the list of members: some 40,000 of them, which zipfile reads in half a second.
LONGEST_LIST = 4 << 20
# What the unpickler of plain data may call and nobody needs here: `bytearray(10**12)` is a short line.
NOT_CALLED = b"bytearray"
BLOCK = 1 << 20
# Of a configuration's file: bytes, levels, values once its aliases are followed, and characters of one. A number to the
# base of 60, `1:1:1`, and a text of nothing but interpolations take minutes to read where they are longer.
MOST_BYTES, DEEPEST, MOST_VALUES, LONGEST_VALUE = 1 << 20, 50, 100_000, 10_000
HEADER = 30  # bytes before a member's name


def most_unpacked(packed: int) -> int:
    """How many bytes a packed file of data of so many bytes may have in it."""
    return max(DATA_TIMES * packed, DATA_BYTES)


def check_archive(path: Path, key: str) -> None:
    """Refuse an archive whose members are not what torch writes: stored as they are, one behind the other.

    The sizes that are declared are compared with the file's own, so that a small file cannot become a large one.

    Raises:
        UserError: a member that is compressed, encrypted, lies over another one or beyond the end of the file; sizes
            that are too large for the file; or a list of members that cannot be read.
    """
    where = f"{key}={path}"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if (longest := _length_of_list(file, size)) > min(size, LONGEST_LIST):
                raise UserError(f"{where}: is no checkpoint: its list of members is {longest} bytes long; not opened")
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                _check_members(members, size, where)
                for member in members:
                    if member.filename.endswith(".pkl"):
                        _check_pickle(archive, member, where)
    except UserError:
        raise
    # NotImplementedError is zipfile's word for a way of packing that it does not know.
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, struct.error, RuntimeError):
        raise UserError(f"{where}: is no checkpoint, or a damaged one") from None


def check_yaml(file: Path) -> str:
    """Refuse a file that is long or deep, or has aliases of aliases: eight short lines may be a gigabyte.

    Args:
        file: YAML; what is wrong with it as such is left to who reads it.

    Returns:
        The text.

    Raises:
        UserError: it is no file, or it becomes larger than any configuration.
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    if not file.is_file():
        raise UserError(f"{file}: is no configuration, but a pipe, a socket or a device")
    if (packed := file.stat().st_size) > MOST_BYTES:
        raise UserError(f"{file}: is no configuration: it has {packed} bytes")
    text = file.read_text(encoding="utf-8")
    sizes: dict[str, int] = {}
    anchors, counts = [""], [0]  # of the collections that are open, the whole text the outermost
    try:
        for event in yaml.parse(text, SafeLoader):
            match event:
                case CollectionStartEvent():
                    anchors.append(event.anchor or "")
                    counts.append(1)
                case CollectionEndEvent():
                    sizes[anchors.pop()] = size = counts.pop()
                    counts[-1] += size
                case AliasEvent():
                    counts[-1] += sizes.get(event.anchor, MOST_VALUES if event.anchor in anchors else 1)
                case ScalarEvent():
                    counts[-1] += 1
                    if len(event.value) > LONGEST_VALUE:
                        raise UserError(f"{file}: is no configuration: a value has {len(event.value)} characters")
            if len(counts) > DEEPEST or sum(counts) > MOST_VALUES:
                raise UserError(
                    f"{file}: is no configuration: more than {DEEPEST} levels deep, or more than {MOST_VALUES} values"
                )
    except YAMLError:
        pass
    return text


def _check_members(members: list[zipfile.ZipInfo], size: int, where: str) -> None:
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise UserError(f"{where}: has a member that is compressed, as torch writes none; not opened")
        if member.file_size != member.compress_size:
            raise UserError(f"{where}: has a member that is not as large as it says; not opened")
    declared = sum(member.file_size for member in members)
    if declared > MOST_TIMES * size:
        raise UserError(f"{where}: says that {declared} bytes are in its {size}; not opened")
    end = 0
    for member in sorted(members, key=lambda each: each.header_offset):
        if member.header_offset < 0:
            raise zipfile.BadZipFile
        if member.header_offset < end:
            raise UserError(f"{where}: has members that lie over each other; not opened")
        end = member.header_offset + HEADER + len(member.filename.encode()) + member.file_size
    if end > size:
        raise UserError(f"{where}: has a member that ends beyond the file's end: it is damaged")


def _check_pickle(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> None:
    before = b""
    with archive.open(member) as file:
        while block := file.read(BLOCK):
            if NOT_CALLED in before + block:
                raise UserError(f"{where}: holds more than plain data; not opened")
            before = block[-len(NOT_CALLED) :]


def _length_of_list(file: BinaryIO, size: int) -> int:
    """How long the list of members says it is, in the record at the file's end or in the larger one before that."""
    file.seek(max(0, size - 98))
    tail = file.read().rjust(98, b"\0")
    larger, locator, record = tail[:56], tail[56:76], tail[76:]
    if record[:4] != b"PK\5\6":  # behind it lies a comment, which torch does not write
        raise zipfile.BadZipFile
    (length,) = struct.unpack("<L", record[12:16])
    if locator[:4] == b"PK\6\7":
        if larger[:4] != b"PK\6\6":
            raise zipfile.BadZipFile
        (length,) = struct.unpack("<Q", larger[40:48])
    return int(length)
