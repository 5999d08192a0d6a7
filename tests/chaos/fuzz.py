"""Records and bodies that nobody would send: made by hypothesis, by bytes at random, and by damage to real ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

NUMBERS = st.one_of(st.integers(-(2**64), 2**64), st.floats(), st.booleans(), st.none())
WORDS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["event", "feedback", "impression", "item", "user", "drift", "request_id", "time", "items", "main.x"]
    ),
)
JSON = st.recursive(
    st.one_of(NUMBERS, WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(WORDS, inner, max_size=6)),
    max_leaves=15,
)
EVENTS = st.fixed_dictionaries(
    {"event": st.sampled_from(["item", "user", "impression", "feedback", "drift", "tick"])},
    optional=dict.fromkeys(("request_id", "item_id", "user_id", "time", "items", "domain", "fields", "name"), JSON),
)


def made_up(count: int, strategy: st.SearchStrategy[object]) -> list[bytes]:
    """`count` values of a strategy, as JSON and as MessagePack by turns."""
    found: list[bytes] = []

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def collect(value: object) -> None:
        encode = msgspec.json.encode if len(found) % 2 else msgspec.msgpack.encode
        try:
            found.append(encode(value))
        except (TypeError, ValueError, OverflowError, UnicodeError):
            found.append(repr(value).encode(errors="replace"))

    collect()
    return found


def damaged(real: Sequence[bytes], count: int, seed: int) -> Iterator[bytes | None]:
    """Real values with bytes flipped, cut, doubled or nested, bytes at random, and nothing at all."""
    dice = random.Random(seed)
    for _ in range(count):
        data = bytearray(dice.choice(real)) if real else bytearray()
        match dice.randrange(8):
            case 0:
                yield None
            case 1:
                yield dice.randbytes(dice.choice((0, 1, 7, 80, 900)))
            case 2:
                yield bytes(data[: dice.randrange(len(data) + 1)])
            case 3:
                depth = dice.choice((20, 400, 20_000))
                yield dice.choice((b"[" * depth, b"\x91" * depth, b'{"a":' * depth))
            case 4:
                start = dice.randrange(len(data) + 1)
                yield bytes(data[:start] + data[start:][: dice.randrange(60)] + data[start:])
            case _:
                for _ in range(dice.choice((1, 2, 30))):
                    if data:
                        data[dice.randrange(len(data))] = dice.randrange(256)
                yield bytes(data)
