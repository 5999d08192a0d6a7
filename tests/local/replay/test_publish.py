"""Publishing and waiting for ingest, on the real broker."""

from __future__ import annotations

import pytest

from features.profiles import ItemProfile, UserProfile
from lab.streams.logged.movielens import MovieLens
from local.replay.publish import IngestSilentError, Publisher, ingest_lag, publish_profiles, wait_for_ingest
from streaming.clients import make_admin, make_consumer
from streaming.config import Config
from streaming.events import FeedbackEvent, ItemEvent, UserEvent, decode_event
from streaming.topics import ensure_topics

DATA = MovieLens(
    users=[UserProfile("u1", 5.0, {"age": 24.0})],
    items=[ItemProfile("i1", 5.0, "Toy Story", {"genres": ["Comedy"]}), ItemProfile("i2", 5.0, "Heat")],
    ratings=[],
    regions={},
)


@pytest.fixture
def config(stream_config: Config) -> Config:
    ensure_topics(stream_config)
    return stream_config


def read_all(config: Config, group_id: str, *, commit: bool = False) -> list[tuple[bytes, bytes]]:
    """Reads until two polls in a row bring nothing, as one of ingest's own groups."""
    records: list[tuple[bytes, bytes]] = []
    with make_consumer(config.kafka, config.topics.interactions, group_id=group_id) as consumer:
        silent = 0
        while silent < 2 or not records:
            batch = [record for part in consumer.poll(timeout_ms=300).values() for record in part]
            silent = 0 if batch else silent + 1
            records += [(record.key, record.value) for record in batch]
        if commit:
            consumer.commit()
    return records


def test_profiles_are_published_with_their_fields_and_clicks_by_their_request(config: Config) -> None:
    publisher = Publisher(config)
    assert publish_profiles(publisher, DATA) == 3
    publisher.send(FeedbackEvent("main.1", "i1", 6.0))
    publisher.flush()
    publisher.close()
    events = {key: decode_event(value) for key, value in read_all(config, config.ingest_consumers)}
    toy_story, user = events[b"i1"], events[b"u1"]
    assert isinstance(toy_story, ItemEvent)
    assert (toy_story.text, toy_story.fields) == ("Toy Story", {"genres": ["Comedy"]})
    assert isinstance(user, UserEvent)
    assert user.fields == {"age": 24.0}
    assert events[b"main.1"] == FeedbackEvent("main.1", "i1", 6.0)


def test_the_lag_is_all_records_until_both_consumers_of_ingest_commit_and_then_zero(config: Config) -> None:
    publisher = Publisher(config)
    publish_profiles(publisher, DATA)
    publisher.close()
    with make_admin(config.kafka) as admin:
        assert ingest_lag(admin, config) == 3
        read_all(config, config.ingest_consumers, commit=True)
        assert ingest_lag(admin, config) == 3, "the lane of profiles has read none"
        read_all(config, config.profile_consumers, commit=True)
        assert ingest_lag(admin, config) == 0
    wait_for_ingest(config, timeout_s=1.0)


def test_an_ingest_that_does_not_read_is_reported_with_a_remedy(config: Config) -> None:
    publisher = Publisher(config)
    publish_profiles(publisher, DATA)
    publisher.close()
    with pytest.raises(IngestSilentError, match="driftline ingest"):
        wait_for_ingest(config, timeout_s=0.3)
