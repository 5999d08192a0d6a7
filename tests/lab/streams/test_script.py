"""Scripts: what is wrong is named, with the cure."""

from __future__ import annotations

from pathlib import Path

import pytest

import lab.streams.logged.mapping  # noqa: F401  (its keys are checked too)
from lab.streams import StreamError, find_script, load_script, parse_script, standard_suite, unmatched_suite
from lab.streams.scripted.drift_events import Taste
from model.config import Section


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\nreqests: 4", "unknown key 'reqests'.*did you mean 'requests'"),
        ("name: x\nevents: [{kind: taste, at: 0.1, strenght: 1}]", "unknown key 'strenght'.*did you mean 'strength'"),
        ("name: x\nzzz: 4", "unknown key 'zzz' at zzz; see docs/streams.md"),
        ("name: x\nevents: [{kind: earthquake, at: 0.1}]", "earthquake.*'taste'.*'no|new_items'"),
        ("name: x\nevents: [{kind: taste}]", "at: Field required"),
        ("name: x\nevents: [{kind: taste, at: 1.5}]", "less than or equal to 1"),
        ("name: x\nevents: [{kind: taste, at: 0.5, until: 0.4}]", "until .0.4. must be later than at"),
        ("name: x\nevents: [{kind: taste, at: 0.5, where: {region: [west]}}]", "no region 'west'; there are north"),
        ("name: x\nevents: [{kind: new_domain, at: 0.5, facet: region, value: north}]", "among the regions already"),
        ("name: x\ndomains: {scene: {home: 0}}", "every scene needs a share above 0"),
        ("name: x\ndomains: {scene: {home: 1.0e+308}}", "every scene needs a share above 0 and up to"),
        ("name: x\ndomains: {scene: {home: true}}", "domains: a number is wanted, not true or false"),
        ("name: x\ndomains: {scene: {unknown: 1}}", "a scene may neither be empty nor be called 'unknown'"),
        ("name: x\ndomains: {scene: {' ': 1}}", "a scene may neither be empty nor be called 'unknown'"),
        ("name: x\nevents: [{kind: new_domain, at: 0.5, value: unknown}]", "'unknown' is no name of a scene"),
        ("name: x\nrequests: 20\nrequests: 30", "line 3: the key 'requests' is listed twice"),
        ("name: x\ndays: 1.0e-300", "days: .*greater than or equal to 0.001"),
        ("name: x\nstrengths: {taste: .nan}", "strengths.taste: .*finite"),
        ("name: x\nevents: [{kind: popularity, at: 0.5, lift: .inf}]", "lift: .*finite"),
        ("requests: 100", "name: Field required"),
        ("- a list", "expected keys and values, not list"),
        ("name: [", "not YAML"),
    ],
)
def test_a_wrong_script_is_refused_with_file_reason_and_remedy(text: str, says: str) -> None:
    with pytest.raises(StreamError, match=says) as refused:
        parse_script(text, "my.yaml")
    assert "my.yaml" in str(refused.value)


def test_a_missing_script_is_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match=r"gone\.yaml: No such file"):
        load_script(tmp_path / "gone.yaml")


def test_a_script_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nevents: [{kind: taste, at: 0.5}]")
    assert load_script(path).events[0].label == "taste"


def test_numbers_in_a_script_match_field_values_and_unquoted_yaml_words_are_refused() -> None:
    event = "{kind: taste, at: 0.5, where: {region: [1]}, who: {fields: {age: [34]}}}"
    made = parse_script(f"name: x\ndomains: {{region: {{1: 0.5, 2: 0.5}}}}\nevents: [{event}]", "x.yaml")
    assert list(made.domains["region"]) == ["1", "2"]
    (taste,) = made.events
    assert isinstance(taste, Taste)
    assert (taste.where.region, taste.who.fields) == (("1",), {"age": ("34",)})
    with pytest.raises(StreamError, match="put it in quotes"):
        parse_script("name: x\ndomains: {region: {NO: 1}}", "x.yaml")  # YAML reads NO as false


def test_the_shipped_scripts_cover_every_kind_and_shape_and_no_drift_at_all() -> None:
    events = [event for script in standard_suite().values() for event in script.events]
    assert {event.kind for event in events} == {
        "taste", "popularity", "new_items", "new_users", "new_domain", "label_delay", "corrupted_labels",
    }  # fmt: skip
    assert {event.shape for event in events if event.kind == "taste"} == {"abrupt", "gradual", "recurring"}
    assert not standard_suite()["no-drift"].events
    assert all(script.about for script in (standard_suite() | unmatched_suite()).values())


def test_the_shipped_scripts_are_read_once_and_a_changed_suite_is_its_owners_alone() -> None:
    mine = standard_suite()
    kept = mine.pop("no-drift")
    assert standard_suite()["no-drift"] is kept


def test_the_unmatched_scripts_are_found_by_name_and_are_not_in_the_standard_suite() -> None:
    assert not set(unmatched_suite()) & set(standard_suite())
    for name, unmatched in unmatched_suite().items():
        assert find_script(name) == unmatched
        assert unmatched.events


def test_each_unmatched_script_drifts_in_the_form_that_it_names() -> None:
    suite = unmatched_suite()
    assert {event.kind for event in suite["items-drift"].events} == {"popularity"}
    assert suite["context-drift"].communities == 1
    assert all(isinstance(e, Taste) and e.where.facets() for e in suite["context-drift"].events)
    assert suite["latent-taste"].strengths.hidden == 1.0
    assert all(isinstance(e, Taste) and e.where.period and e.who.communities for e in suite["user-by-hour"].events)


def test_every_key_of_a_script_and_of_a_mapping_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "streams.md").read_text(encoding="utf-8")
    for module in ("lab.streams.scripted.script", "lab.streams.logged.mapping"):
        for section in _sections(Section):
            if section.__module__ == module:
                missing = [key for key in section.model_fields if key != "kind" and key not in page]
                assert not missing, f"{section.__name__}: {missing}"


def test_the_script_on_the_page_is_a_script() -> None:
    page = (Path(__file__).parents[3] / "docs" / "streams.md").read_text(encoding="utf-8")
    text = page.split("```yaml\n", maxsplit=1)[1].split("```", maxsplit=1)[0]
    assert parse_script(text, "streams.md").name == "evening-fashion"


def _sections(section: type[Section]) -> list[type[Section]]:
    return [s for sub in section.__subclasses__() for s in (sub, *_sections(sub))]
