"""A domain's key names one domain, whatever its values hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.encoding.domain import Domain

values = st.text(st.sampled_from("a/%2F5é "), max_size=6)
domains = st.builds(Domain, values, values, values)


def test_a_key_shows_its_values_as_they_are() -> None:
    assert Domain("home", "zip 7", "evening").key == "home/zip 7/evening"


@given(domains)
def test_a_key_gives_its_values_back(domain: Domain) -> None:
    assert Domain(*Domain.parts_of(domain.key)) == domain


def test_values_with_slashes_do_not_make_one_key_of_two_domains() -> None:
    assert Domain("a/b", "c").key != Domain("a", "b/c").key
    assert Domain("a%2Fb", "c").key != Domain("a/b", "c").key
