"""The notes of MLflow's experiments: a line for each sweep, beside what a person wrote."""

from __future__ import annotations

from orchestrator.planning.cells import FINAL, SEARCH
from orchestrator.tracking.notes import BEGINS, ENDS, LONGEST_NOTE, about, sweep_line, with_line


def line(name: str, done: int = 1) -> str:
    return sweep_line(name, f"#/experiments/1/runs?viewStateShareKey={name}", f"{done} of 4 cells done", "")


def lines(note: str) -> list[str]:
    return [each for each in note.splitlines() if each.startswith("- ")]


def test_a_line_leads_to_the_sweep_s_page() -> None:
    found = sweep_line("mine", "#/page", "4 of 4 cells done", "AP-MSP: rotation 35.00%")
    assert found == "- [**mine**](#/page): 4 of 4 cells done. AP-MSP: rotation 35.00%"


def test_each_sweep_has_one_line_and_the_newest_is_first() -> None:
    note = ""
    for name, done in (("mine", 1), ("yours", 2), ("mine", 3)):
        note = with_line(note, about("digits", FINAL), name, line(name, done))
    assert lines(note) == [line("mine", 3), line("yours", 2)]
    assert note.startswith(f"{BEGINS}\n**digits**: a run for each final cell")
    assert with_line(note, about("digits", FINAL), "mine", line("mine", 3)) == note
    assert "**digits-search**" in about("digits", SEARCH)


def test_a_person_s_words_stay_before_and_after_the_lines() -> None:
    note = with_line("Ask me\nbefore you delete this.", "said", "mine", line("mine"))
    assert note.startswith(f"Ask me\nbefore you delete this.\n\n{BEGINS}")
    note = with_line(f"{note}\n- my list", "said", "yours", line("yours"))
    assert note.startswith(f"Ask me\nbefore you delete this.\n\n{BEGINS}")
    assert note.endswith(f"{ENDS}\n- my list")
    assert lines(note) == [line("yours"), line("mine"), "- my list"]


def test_the_oldest_lines_give_way_to_what_mlflow_takes_and_a_person_s_words_never() -> None:
    note = "A person's words."
    for number in range(100):
        note = with_line(note, "said", f"sweep-{number}", line(f"sweep-{number}"))
    assert len(note) <= LONGEST_NOTE
    assert note.startswith("A person's words.")
    kept = lines(note)
    assert kept == [line(f"sweep-{99 - place}") for place in range(len(kept))]
    assert len(kept) > 20
    full = "x" * LONGEST_NOTE
    assert with_line(full, "said", "mine", line("mine")) == full
