"""Text and HTML for distributions, rejection reasons and file names."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping

from moodlake.reasons import Reason
from moodlake.scoring.reports.html import colour_of, percent

_PEOPLE = 10
_TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def escape_markdown(text: str) -> str:
    """Escape text for Markdown, so that it is displayed verbatim; drop terminal colours."""
    text = " ".join(_TERMINAL_COLOURS.sub("", text).split())
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def reason_line(reason: str, count: int) -> str:
    """Return a Markdown list item: a rejection reason, its count and its explanation."""
    return f"- **{count:,}** {escape_markdown(reason)}: {explain_reason(reason)}"


def explain_reason(reason: str) -> str:
    """Return a sentence that explains a rejection reason, also for one of a newer version."""
    if reason in list(Reason):
        return Reason(reason).explanation
    return f"Not scored: {escape_markdown(reason)}."


def ranked(distribution: Mapping[str, float]) -> list[tuple[str, float]]:
    """Sort a distribution's emotions by probability, the highest first."""
    return sorted(distribution.items(), key=lambda item: -item[1])


def votes_of_ten(distribution: Mapping[str, float]) -> dict[str, int]:
    """Round a distribution to the votes of ten people, by largest remainders.

    The votes sum to ten; emotions without a vote are left out.
    """
    shares = {name: _PEOPLE * value for name, value in ranked(distribution)}
    votes = {name: math.floor(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: votes[name] - shares[name])
    for name in by_remainder[: _PEOPLE - sum(votes.values())]:
        votes[name] += 1
    return {name: count for name, count in votes.items() if count}


def disagreement(distribution: Mapping[str, float]) -> float:
    """Return the probability that two people name different emotions (Gini-Simpson index)."""
    return max(0.0, 1 - sum(value * value for value in distribution.values()))


def describe(distribution: Mapping[str, float], entropy: float) -> str:
    """Describe in Markdown which emotions people would name and how much they would disagree."""
    votes = votes_of_ten(distribution)
    first, *others = (
        f"{count} would say **{escape_markdown(name)}**" for name, count in votes.items()
    )
    answers = ", ".join([first, *(other.replace(" would say", "") for other in others)])
    return (
        f"Of ten people asked, about {answers}. "
        f"Two of them would disagree in {percent(disagreement(distribution))} of cases "
        f"(entropy {entropy:.2f} nats, at most {math.log(len(distribution)):.2f})."
    )


def bars(distribution: Mapping[str, float], label: str = "Emotions") -> str:
    """Draw a distribution as an HTML list of bars, the longest first, with names and numbers.

    Args:
        distribution: emotion -> probability.
        label: the list's name for screen readers.
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
