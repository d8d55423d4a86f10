"""What Streamlit runs: the list of pages."""

import streamlit as st

from app.pages import about, compare, data, results, runs, try_images

st.set_page_config("moodlake", layout="wide")
pages = {
    "try": st.Page(try_images.page, title="Try", url_path="try", default=True),
    "runs": st.Page(runs.page, title="Runs", url_path="runs"),
    "results": st.Page(results.page, title="Results", url_path="results"),
    "compare": st.Page(compare.page, title="Compare", url_path="compare"),
    "data": st.Page(data.page, title="Data", url_path="data"),
    "about": st.Page(about.page, title="About", url_path="about"),
}
st.session_state["pages"] = pages
st.navigation(list(pages.values()), position="top").run()
