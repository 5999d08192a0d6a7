"""The command asks a real scorer over a socket whether it has applied an order, with an API key if required."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from local.control.applied import wait_until_applied
from local.control.command import app
from streaming.config import Config
from streaming.events.decisions import Order
from streaming.scorer.access import key_hash, new_key
from tests.streaming.scorer.scoring_parts import serving

SHOP, OPS = new_key(), new_key()
KEYS = [
    {"name": "shop", "hash": key_hash(SHOP), "may": ["score"]},
    {"name": "ops", "hash": key_hash(OPS), "may": ["operator"]},
]


@pytest.mark.parametrize(
    ("key", "message"),
    [(OPS, "obeys"), (SHOP, "a key with the right `operator`"), (None, "name its file by --key-file")],
    ids=["operator", "shop", "none"],  # the keys are drawn anew in every process that runs tests
)
def test_a_scorer_with_api_keys_reports_an_applied_order_to_an_authorised_key(key: str | None, message: str) -> None:
    with serving(Config.model_validate({"access": {"keys": KEYS}})) as port:
        assert message in wait_until_applied(f"http://127.0.0.1:{port}", Order("main"), key)


@pytest.mark.parametrize("content", [None, "", "two words", "unreadable \u00e9"])
@pytest.mark.parametrize("command", ["pin main 1", "rollback main", "freeze main", "resume main"])
def test_a_file_without_a_key_is_refused_before_an_order_is_given(
    tmp_path: Path, command: str, content: str | None
) -> None:
    path = tmp_path / "ops.key"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    arguments = [*command.split(), "--key-file", str(path)]
    refused = CliRunner().invoke(app, arguments, obj=lambda: pytest.fail("it was ordered"))
    assert refused.exit_code == 2 and "--key-file" in refused.output
