"""What a sweep took in hours of GPUs or CPUs and, at a price, in money: lost work included."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.ledger.attempts import Usage
from orchestrator.ledger.spending import HOUR, Spending
from orchestrator.planning.cells import Cell
from orchestrator.planning.specification import Specification
from orchestrator.reporting.tables import BLANK, NUMBER, TEXT, Column, Table
from trainables.mistake import counted

RULE = "the time of attempts that did not end well, after the last epoch of theirs that was gone on from"


@dataclass(frozen=True)
class Cost:
    """What some cells took, and what it costs if the price of a GPU's hour is known."""

    spending: Spending
    price: float | None = None

    @property
    def money(self) -> float | None:
        """The cost in the price's currency; None without a price, or if no GPU was used."""
        if self.price is None or not self.spending.on_gpus:
            return None
        return self.price * self.spending.hours

    @property
    def sentence(self) -> str:
        """The cost, and what was lost of it, in words."""
        spent = self.spending
        if not spent.attempts:
            return "Cost: no attempt has begun."
        unit = "GPU-hours" if spent.on_gpus else "CPU-hours"
        least = "at least " if spent.unrecorded else ""
        parts = [f"Cost: {least}{short_hours(spent.hours)} {unit} in {counted(spent.attempts, 'attempt')}"]
        if self.money is not None:
            parts[0] += f", which is {self.money:,.2f} at {self.price:g} a GPU-hour"
        elif self.price is not None:
            parts[0] += ", none of it on a GPU"
        if spent.lost_hours > 0:
            share = f"{100 * spent.lost_hours / spent.hours:.1f}%"
            parts.append(f"{short_hours(spent.lost_hours)} of them ({share}) were lost: {RULE}")
        else:
            parts.append("nothing of it was lost")
        if spent.unrecorded:
            parts.append(
                f"{counted(spent.unrecorded, 'attempt')} left no record, as in version 0.1, of which "
                "what is known is counted"
            )
        return f"{'; '.join(parts)}."

    def as_json(self) -> dict[str, float | int | None]:
        """Return plain values for JSON; hours count each GPU or CPU."""
        spent = self.spending
        return {
            "attempts": spent.attempts,
            "attempts_without_record": spent.unrecorded,
            "gpu_hours": spent.gpu_seconds / HOUR,
            "cpu_hours": spent.cpu_seconds / HOUR,
            "lost_gpu_hours": spent.lost_gpu_seconds / HOUR,
            "lost_cpu_hours": spent.lost_cpu_seconds / HOUR,
            "price_per_gpu_hour": self.price,
            "money": self.money,
        }


def assumed_usage(specification: Specification) -> Usage:
    """Return what an attempt without a record is taken to have had: a GPU, or CPUs, for each worker."""
    gpus = specification.workers if specification.device == "cuda" else 0
    return Usage(specification.workers * specification.threads, gpus)


def total(spent: Mapping[str, Spending], price: float | None = None) -> Cost:
    """Return what all cells took together."""
    return Cost(sum(spent.values(), Spending()), price)


def cost_csv(cells: Sequence[Cell], spent: Mapping[str, Spending], price: float | None = None) -> str:
    """Return a row for each phase and method, and one of the sum."""
    kinds: dict[tuple[str, str], dict[str, Spending]] = {}
    for cell in cells:
        of_kind = kinds.setdefault((cell.phase, cell.method), {})
        if cell.key in spent:
            of_kind[cell.key] = spent[cell.key]
    rows = [
        {"phase": phase, "method": method, "cells_begun": len(found), **total(found, price).as_json()}
        for (phase, method), found in kinds.items()
    ]
    own = {cell.key: spent[cell.key] for cell in cells if cell.key in spent}
    rows.append({"phase": "all", "method": "", "cells_begun": len(own), **total(own, price).as_json()})
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def cost_table(
    cells: Sequence[Cell], spent: Mapping[str, Spending], price: float | None, label: str
) -> Table:
    """Return the hours of each phase and method, and of all, as cost.csv has them."""
    rows = list(csv.DictReader(io.StringIO(cost_csv(cells, spent, price))))
    unit = "GPU" if any(float(row["gpu_hours"]) for row in rows) else "CPU"
    fields = {"cells begun": "cells_begun", "attempts": "attempts"}
    fields |= {f"{unit}-hours": f"{unit.lower()}_hours", "of them lost": f"lost_{unit.lower()}_hours"}
    if unit == "GPU" and price is not None:
        fields["money"] = "money"
    columns = [Column("phase", TEXT, "phase"), Column("method", TEXT, "method")]
    columns += [Column(title, NUMBER, name) for title, name in fields.items()]

    def shown(row: Mapping[str, str], name: str) -> str:
        if name == "money":
            return f"{float(row[name]):,.2f}" if row[name] else BLANK
        return short_hours(float(row[name])) if name.endswith("hours") else row[name]

    body = [(row["phase"], row["method"], *(shown(row, name) for name in fields.values())) for row in rows]
    return Table(tuple(columns), tuple(body), "", label, frozenset({len(body) - 1}))


def short_hours(hours: float) -> str:
    """Return hours, rounded to what matters of them."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"
