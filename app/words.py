"""Distributions in words and bars that everybody can read."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping

from moodlake.reasons import Reason
from moodlake.scoring.reports.html import colour_of, percent

_PEOPLE = 10
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def plain(text: str) -> str:
    """Text, as of a file's name, that Markdown shows as it is; without a terminal's colours."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(_COLOURS.sub("", text).split()))


def told_reason(reason: str, count: int) -> str:
    """A line of Markdown: how many were rejected for this reason, and what it means."""
    return f"- **{count:,}** {plain(reason)}: {why(reason)}"


def why(reason: str) -> str:
    """What a reason means; a newer version may have written one that is unknown here."""
    return Reason(reason).explanation if reason in list(Reason) else f"Not scored: {plain(reason)}."


def ranked(distribution: Mapping[str, float]) -> list[tuple[str, float]]:
    """The most probable emotion first."""
    return sorted(distribution.items(), key=lambda item: -item[1])


def of_ten(distribution: Mapping[str, float]) -> dict[str, int]:
    """How many of ten people would say which emotion: parts of ten that lie nearest.

    By largest remainders, so that they sum to ten; emotions that nobody says are left out.
    """
    shares = {name: _PEOPLE * value for name, value in ranked(distribution)}
    counts = {name: math.floor(share) for name, share in shares.items()}
    by_rest = sorted(shares, key=lambda name: counts[name] - shares[name])
    for name in by_rest[: _PEOPLE - sum(counts.values())]:
        counts[name] += 1
    return {name: count for name, count in counts.items() if count}


def disagreement(distribution: Mapping[str, float]) -> float:
    """How probable it is that two people say different emotions, 0 to 1 (Gini-Simpson index)."""
    return max(0.0, 1 - sum(value * value for value in distribution.values()))


def uncertainty(distribution: Mapping[str, float], entropy: float) -> str:
    """What people would say, and how much they would disagree, in Markdown."""
    counts = of_ten(distribution)
    first, *others = (f"{count} would say **{plain(name)}**" for name, count in counts.items())
    told = ", ".join([first, *(other.replace(" would say", "") for other in others)])
    most = math.log(len(distribution))
    return (
        f"Of ten people asked, about {told}. "
        f"Two of them would disagree in {percent(disagreement(distribution))} of cases "
        f"(entropy {entropy:.2f} of at most {most:.2f} nats)."
    )


def bars(distribution: Mapping[str, float], label: str = "Emotions") -> str:
    """HTML of a bar for each emotion, longest first; names and numbers are text beside them.

    Args:
        distribution: emotion -> probability.
        label: what a screen reader calls the list.
    """
    lines = "".join(
        f'<li style="display:grid;grid-template-columns:6.5rem 1fr 3.2rem;gap:.6rem;'
        f'align-items:center;padding:.12rem 0"><span>{html.escape(name)}</span>'
        f'<span aria-hidden="true" style="background:rgba(128,128,128,.18);border-radius:4px">'
        f'<span style="display:block;height:1.05rem;border-radius:4px;width:{100 * value:.1f}%;'
        f'background:{colour_of(name)}"></span></span>'
        f'<span style="text-align:right">{html.escape(percent(value))}</span></li>'
        for name, value in ranked(distribution)
    )
    style = "list-style:none;margin:0;padding:0"
    return f'<ul aria-label="{html.escape(label)}" style="{style}">{lines}</ul>'
