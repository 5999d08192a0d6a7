"""Read progress of ingest: it never claims more than precedes the mark in `traffic`."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from streaming.ingest.progress import MarkSchedule, ReadProgress

PARTITIONS = 2
MEMBERS = 3


@dataclass
class Member:
    """One process of the group, as far as it knows itself."""

    progress: ReadProgress = field(default_factory=ReadProgress)
    position: dict[int, int] = field(default_factory=dict)


@dataclass
class World:
    """`interactions`, `traffic`, the group and its members. Time is the broker's."""

    now: float = 1_000.0
    appended: list[list[float]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    traffic: list[tuple[int, int] | dict[int, float]] = field(default_factory=list)
    committed: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    owner: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    members: list[Member] = field(default_factory=lambda: [Member() for _ in range(MEMBERS)])

    def send(self, partition: int, pause: float) -> None:
        self.now += pause
        self.appended[partition].append(self.now)

    def rebalance(self, owners: list[int]) -> None:
        self.owner = owners

    def notice(self, member: int) -> None:
        """Notifies the member of its assignment; new partitions start at the committed offset."""
        own = {partition for partition in range(PARTITIONS) if self.owner[partition] == member}
        known = self.members[member].position
        self.members[member].position = {p: known.get(p, self.committed[p]) for p in own}
        self.members[member].progress.own(own)

    def crash(self, member: int) -> None:
        self.members[member] = Member()

    def poll(self, member: int, most: int, fate: str) -> None:
        """Reads, writes, commits; `fate` may end the process in between or lose the commit."""
        me = self.members[member]
        for partition, position in list(me.position.items()):
            end = min(position + most, len(self.appended[partition]))
            for offset in range(position, end):
                self.traffic.append((partition, offset))
                if fate == "dies while writing":
                    return self.crash(member)
            if fate == "dies before the commit":
                return self.crash(member)
            me.position[partition] = end
            if fate != "commit fails":
                self.committed[partition] = end
            if end > position:
                me.progress.handled(partition, self.appended[partition][end - 1])
        return None

    def ask(self, member: int, late: list[int]) -> None:
        """Asks for the ends; `late` is appended between the question and its answer."""
        me = self.members[member]
        asked = self.now
        for partition in late:
            self.send(partition, 0.1)
        for partition, position in me.position.items():
            me.progress.looked(partition, position, len(self.appended[partition]), asked)
        self.now += 0.01

    def mark(self, member: int) -> None:
        self.traffic.append(self.members[member].progress.claims())

    def check(self) -> None:
        written: set[tuple[int, int]] = set()
        for record in self.traffic:
            if isinstance(record, tuple):
                written.add(record)
                continue
            for partition, read in record.items():
                missing = [
                    offset
                    for offset, time in enumerate(self.appended[partition])
                    if time < read and (partition, offset) not in written
                ]
                assert not missing, (partition, read, missing)


members = st.integers(0, MEMBERS - 1)
partitions = st.integers(0, PARTITIONS - 1)
fates = st.sampled_from(["", "", "", "commit fails", "dies while writing", "dies before the commit"])
steps = st.one_of(
    st.tuples(st.just("send"), partitions, st.floats(0.0, 2.0)),
    st.tuples(st.just("poll"), members, st.integers(1, 4), fates),
    st.tuples(st.just("ask"), members, st.lists(partitions, max_size=2)),
    st.tuples(st.just("mark"), members),
    st.tuples(st.just("notice"), members),
    st.tuples(st.just("rebalance"), st.lists(members, min_size=PARTITIONS, max_size=PARTITIONS)),
    st.tuples(st.just("crash"), members),
)


@given(st.lists(steps, max_size=60))
def test_progress_marks_claim_only_records_that_precede_them_in_traffic(plan: list[tuple[object, ...]]) -> None:
    world = World()
    world.notice(0)
    for name, *arguments in plan:
        getattr(world, str(name))(*arguments)
        world.check()


def test_a_current_member_claims_up_to_now_and_a_lagging_one_up_to_its_last_record() -> None:
    world = World()
    world.notice(0)
    for _ in range(6):
        world.send(0, 1.0)
    world.poll(0, 2, "")
    world.ask(0, [])
    assert world.members[0].progress.claims()[0] == 1_002.0
    world.poll(0, 9, "")
    world.now = 1_060.0
    world.ask(0, [])
    assert world.members[0].progress.claims() == {0: 1_060.0, 1: 1_060.0}


def test_nothing_is_claimed_for_newly_assigned_or_revoked_partitions() -> None:
    world = World()
    world.notice(0)
    world.send(0, 1.0)
    world.send(1, 1.0)
    world.poll(0, 1, "")
    world.rebalance([0, 1])
    world.notice(0)
    world.notice(1)
    assert set(world.members[0].progress.claims()) == {0}
    assert world.members[1].progress.claims() == {}


def test_an_unknown_time_is_not_a_claim() -> None:
    progress = ReadProgress()
    progress.looked(0, 5, 5, float("-inf"))
    assert progress.claims() == {}


def test_marks_continue_while_windows_may_be_open_and_stop_afterwards() -> None:
    schedule = MarkSchedule()
    written = []
    for now in range(100, 130):
        claims = {0: float(now), 1: float(now) - 3.0}
        if schedule.due(claims, {0, 1}, until=110.0):
            schedule.wrote(claims)
            written.append(now)
    assert written == list(range(100, 114))
    assert schedule.due({0: 130.0, 1: 130.0}, {0, 1}, until=131.0), "traffic came again"


def test_a_member_without_progress_writes_no_repeated_mark() -> None:
    schedule = MarkSchedule()
    schedule.wrote({0: 100.0})
    assert not schedule.due({0: 100.0}, {0}, until=200.0)
    assert schedule.due({0: 100.5}, {0}, until=200.0)


def test_a_member_with_a_new_partition_marks_until_its_windows_are_closed_too() -> None:
    schedule = MarkSchedule()
    schedule.wrote({0: 300.0})
    assert not schedule.due({0: 301.0}, {0}, until=200.0)
    assert schedule.due({0: 301.0, 1: 150.0}, {0, 1}, until=200.0)
    assert schedule.due({}, {0, 1}, until=400.0), "the first mark asks for the broker's time"
