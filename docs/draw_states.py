"""Draws the state diagram in ``docs/architecture.md`` from the table in ``beam.transfer``: ``make docs``."""

from pathlib import Path

from beam.errors import Outcome
from beam.transfer import TABLE, State

PAGE = Path(__file__).with_name("architecture.md")
BEGIN, END = "<!-- states: drawn by docs/draw_states.py -->\n", "<!-- end of states -->\n"


def diagram() -> str:
    """The table as a Mermaid state diagram: arrows with the same ends are one, and self-loops are left out."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (before, event), after in TABLE.items():
        if before != after:
            arrows.setdefault((before, name(after)), []).append(event)
    lines = ["stateDiagram-v2", f"    [*] --> {State.WAITING}: into a store that holds"]
    lines.append(f"    [*] --> {State.STORING}: into a store that keeps")
    lines += [f"    {before} --> {after}: {' or '.join(events)}" for (before, after), events in arrows.items()]
    ends = sorted({name(after) for after in TABLE.values() if isinstance(after, Outcome)})
    lines += [f"    {end} --> [*]" for end in ends]
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def name(state: State | Outcome) -> str:
    """A name that Mermaid takes: outcomes have hyphens."""
    return state.replace("-", "_")


def drawn(page: str) -> str:
    """``page`` with the diagram as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + diagram() + END + after


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
