"""About: how to read a distribution, what the model learnt from, its limits and forbidden uses."""

from __future__ import annotations

import re
from contextlib import closing

import streamlit as st

from app.installation import connect_to_server
from app.words import bars, plain, uncertainty
from moodlake.emotions import entropy
from moodlake.serving.client import ServerError
from moodlake.settings import RELEASED_ARCHIVE

_CARD = RELEASED_ARCHIVE.with_name("MODEL_CARD.md")
_FIGURES = RELEASED_ARCHIVE.with_name("figures.png")
_EXAMPLE = {"happiness": 0.62, "neutral": 0.27, "surprise": 0.11}


def page() -> None:
    st.title("What a score means")
    st.markdown(
        "A score says how an image **reads to people**, not what anyone in it feels. People who "
        "look at the same face often disagree, so the answer is a distribution: how many of them "
        "would name which emotion."
    )
    left, right = st.columns(2)
    left.html(bars(_EXAMPLE))
    right.markdown(uncertainty(_EXAMPLE, float(entropy(list(_EXAMPLE.values())))))
    st.warning(
        "EU law (AI Act, Art. 5(1)(f)) forbids inferring the emotions of people at work or in "
        "education, but for medical or safety reasons. Do not use this for that, nor to decide "
        "anything about a person."
    )
    _served()


def _served() -> None:
    """The model that answers, and its card."""
    try:
        with closing(connect_to_server()) as engine:
            model, made = engine.identity, engine.provenance
    except ServerError as error:
        st.error(plain(str(error)))
        return
    st.subheader(plain(f"The model: {model.name} {model.version}"))
    st.caption(f"digest {model.digest}")
    card = _CARD.read_text("utf-8") if _CARD.exists() else ""
    if model.digest[:12] in card:
        _show_card(card)
    else:
        st.info("This model is not the released one, whose card lies beside it.")
        st.json({name: made.get(name) for name in ("data_name", "metrics", "params")}, expanded=2)


def _show_card(card: str) -> None:
    """Its text without the title; the picture in it is a file beside it."""
    before, between, after = re.split(rf"!\[(.*)\]\({_FIGURES.name}\)", card.partition("\n")[2])
    st.markdown(before)
    st.image(str(_FIGURES), alt=between)
    st.markdown(after)
