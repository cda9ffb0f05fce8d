"""How large a packed file of data may become: what is in it can be read again and again from a few bytes."""

# Unpacked, it has at most so many times its own bytes, or this many of them. A text seldom has 20 times; gzip allows
# 1,000 times, and Parquet any number.
DATA_TIMES, DATA_BYTES = 100, 1 << 28


def most_unpacked(packed: int) -> int:
    """How many bytes a packed file of so many bytes may have in it."""
    return max(DATA_TIMES * packed, DATA_BYTES)
