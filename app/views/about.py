"""The page About: how to read a distribution, the served model's card, and prohibited uses."""

from __future__ import annotations

import re
from contextlib import closing

import streamlit as st

from app.backend import connect_to_server
from app.wording import bars, describe, escape_markdown
from moodlake.emotions import entropy
from moodlake.serving.client import ServerError
from moodlake.settings import RELEASED_ARCHIVE

_CARD = RELEASED_ARCHIVE.with_name("MODEL_CARD.md")
_FIGURES = RELEASED_ARCHIVE.with_name("figures.png")
_EXAMPLE = {"happiness": 0.62, "neutral": 0.27, "surprise": 0.11}


def page() -> None:
    st.title("What a score means")
    st.markdown(
        "A score predicts which emotion **people see in an image**, not what anyone in it feels. "
        "People who look at the same face often disagree, so a score is a distribution: the share "
        "of people who would name each emotion."
    )
    left, right = st.columns(2)
    left.html(bars(_EXAMPLE))
    right.markdown(describe(_EXAMPLE, float(entropy(list(_EXAMPLE.values())))))
    st.warning(
        "EU law (AI Act, Art. 5(1)(f)) forbids inferring the emotions of people at work or in "
        "education, except for medical or safety reasons. Do not use moodlake for that, or to make "
        "decisions about people."
    )
    _show_served_model()


def _show_served_model() -> None:
    """Show the model that the server uses, with its card if it is the released one."""
    try:
        with closing(connect_to_server()) as engine:
            model, provenance = engine.identity, engine.provenance
    except ServerError as error:
        st.error(escape_markdown(str(error)))
        return
    st.subheader(escape_markdown(f"Model: {model.name} {model.version}"))
    st.caption(f"digest {model.digest}")
    card = _CARD.read_text("utf-8") if _CARD.exists() else ""
    if model.digest[:12] in card:
        _show_card(card)
    else:
        st.info("This is not the released model, so there is no model card to show.")
        names = ("data_name", "metrics", "params")
        st.json({name: provenance.get(name) for name in names}, expanded=2)


def _show_card(card: str) -> None:
    """Show the card without its title; its picture is a separate file."""
    before, alt, after = re.split(rf"!\[(.*)\]\({_FIGURES.name}\)", card.partition("\n")[2])
    st.markdown(before)
    st.image(str(_FIGURES), alt=alt)
    st.markdown(after)
