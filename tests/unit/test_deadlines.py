"""One heap for everything that is due."""

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from beam.deadlines import Deadline, Deadlines


class Recorder:
    """Deadlines that write down when they act."""

    def __init__(self) -> None:
        self.deadlines = Deadlines()
        self.acted: list[tuple[str, float]] = []

    def make(self, name: str) -> Deadline:
        return Deadline(lambda now: self.acted.append((name, now)))


def test_nothing_is_due() -> None:
    """An empty heap never fires."""
    deadlines = Deadlines()
    assert (len(deadlines), deadlines.next()) == (0, inf)
    deadlines.sweep(1e9)


def test_each_acts_once_when_it_is_due_in_order() -> None:
    """Earliest first; those due at the same time in the order in which they were set."""
    recorder = Recorder()
    for name, at in (("late", 3.0), ("first", 1.0), ("second", 1.0), ("never", inf), ("future", 9.0)):
        recorder.deadlines.set(recorder.make(name), at)
    assert (len(recorder.deadlines), recorder.deadlines.next()) == (4, 1.0)
    recorder.deadlines.sweep(0.999)
    assert recorder.acted == []
    recorder.deadlines.sweep(3.0)
    assert recorder.acted == [("first", 3.0), ("second", 3.0), ("late", 3.0)]
    assert (len(recorder.deadlines), recorder.deadlines.next()) == (1, 9.0)
    recorder.deadlines.sweep(8.0)
    assert len(recorder.acted) == 3


def test_a_moved_one_acts_at_its_new_time_only() -> None:
    """Later, earlier, there and back, and taken out."""
    recorder = Recorder()
    moved, taken_out = recorder.make("moved"), recorder.make("taken out")
    for at in (5.0, 2.0, 8.0, 5.0):
        recorder.deadlines.set(moved, at)
        recorder.deadlines.set(taken_out, at)
    recorder.deadlines.set(taken_out, inf)
    assert (len(recorder.deadlines), recorder.deadlines.next()) == (1, 5.0)
    recorder.deadlines.sweep(4.0)
    assert recorder.acted == []
    recorder.deadlines.sweep(100.0)
    assert recorder.acted == [("moved", 100.0)]
    assert (moved.at, len(recorder.deadlines), recorder.deadlines.next()) == (inf, 0, inf)


def test_taking_out_what_is_not_in_changes_nothing() -> None:
    """A deadline may be taken out again and again."""
    recorder = Recorder()
    deadline = recorder.make("x")
    recorder.deadlines.set(deadline, inf)
    recorder.deadlines.set(deadline, inf)
    assert len(recorder.deadlines) == 0


def test_what_an_act_sets_for_now_waits_for_the_next_sweep() -> None:
    """No act can keep the reactor in one sweep for ever."""
    deadlines = Deadlines()
    acted: list[float] = []

    def again(now: float) -> None:
        acted.append(now)
        deadlines.set(deadline, now)
        if len(acted) == 1:
            deadlines.set(other, now)

    deadline, other = Deadline(again), Deadline(lambda now: acted.append(-now))
    deadlines.set(deadline, 1.0)
    deadlines.sweep(2.0)
    assert acted == [2.0]
    assert (len(deadlines), deadlines.next()) == (2, 2.0)
    deadlines.sweep(2.0)
    assert acted == [2.0, 2.0, -2.0]


def test_an_act_takes_out_another_that_is_due_too() -> None:
    """What has been taken out does not act, although it was due when the sweep began."""
    recorder = Recorder()
    victim = recorder.make("victim")
    recorder.deadlines.set(Deadline(lambda _: recorder.deadlines.set(victim, inf)), 1.0)
    recorder.deadlines.set(victim, 1.5)
    recorder.deadlines.sweep(2.0)
    assert recorder.acted == []
    assert len(recorder.deadlines) == 0


def test_an_act_moves_another_that_is_due_too() -> None:
    """What has been moved into the future acts then, and once."""
    recorder = Recorder()
    victim = recorder.make("victim")
    recorder.deadlines.set(Deadline(lambda _: recorder.deadlines.set(victim, 5.0)), 1.0)
    recorder.deadlines.set(victim, 1.5)
    recorder.deadlines.sweep(2.0)
    assert recorder.acted == []
    assert (len(recorder.deadlines), recorder.deadlines.next()) == (1, 5.0)
    recorder.deadlines.sweep(5.0)
    assert recorder.acted == [("victim", 5.0)]
    assert len(recorder.deadlines) == 0


def test_old_entries_do_not_pile_up() -> None:
    """A deadline that is moved with every byte costs no memory."""
    recorder = Recorder()
    deadlines = [recorder.make(str(i)) for i in range(10)]
    for at in range(10_000):
        for deadline in deadlines:
            recorder.deadlines.set(deadline, 1.0 + at)
    assert len(recorder.deadlines._heap) < 200
    recorder.deadlines.sweep(1e9)
    assert sorted(name for name, _ in recorder.acted) == [str(i) for i in range(10)]


TIMES = st.one_of(st.integers(0, 20).map(float), st.just(inf))


class DeadlinesMachine(RuleBasedStateMachine):
    """Twelve deadlines beside a plain dict of times."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.deadlines = Deadlines()
        self.due: dict[int, float] = {}
        self.acted: list[int] = []
        self.entries = [Deadline(lambda now, i=i: self.acted.append(i)) for i in range(12)]  # type: ignore[misc]

    @rule(i=st.integers(0, 11), after=TIMES)
    def set(self, i: int, after: float) -> None:
        self.deadlines.set(self.entries[i], self.now + after)
        if after < inf:
            self.due[i] = self.now + after
        else:
            self.due.pop(i, None)

    @rule(i=st.integers(0, 11), times=st.integers(60, 200))
    def set_often(self, i: int, times: int) -> None:
        for after in range(times):
            self.set(i, float(after % 7))

    @rule(seconds=st.integers(0, 12))
    def sweep(self, seconds: int) -> None:
        self.now += seconds
        self.acted.clear()
        self.deadlines.sweep(self.now)
        due = {i for i, at in self.due.items() if at <= self.now}
        assert sorted(self.acted) == sorted(due)
        assert [self.due[i] for i in self.acted] == sorted(self.due[i] for i in self.acted)
        for i in due:
            del self.due[i]

    @invariant()
    def agree(self) -> None:
        assert len(self.deadlines) == len(self.due)
        assert self.deadlines.next() == min(self.due.values(), default=inf)


DeadlinesMachine.TestCase.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)
TestDeadlines = DeadlinesMachine.TestCase


@given(st.lists(TIMES, max_size=30))
def test_any_number_of_them(times: list[float]) -> None:
    """All that are due act, sorted by time; ``len`` and ``next`` tell of the others."""
    recorder = Recorder()
    for i, at in enumerate(times):
        recorder.deadlines.set(recorder.make(str(i)), at)
    recorder.deadlines.sweep(10.0)
    assert [int(name) for name, _ in recorder.acted] == sorted(
        (i for i, at in enumerate(times) if at <= 10), key=lambda i: times[i]
    )
    left = [at for at in times if 10 < at < inf]
    assert (len(recorder.deadlines), recorder.deadlines.next()) == (len(left), min(left, default=inf))
