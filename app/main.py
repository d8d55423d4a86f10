"""Entry point for `streamlit run`: the list of pages."""

import streamlit as st
from starlette.formparsers import MultiPartParser

from app.upload_source import MAX_UPLOAD_MB
from app.views import about, compare, data, results, runs, try_images
from app.views.try_images import SESSION_PARAMETER, forget_widgets

# Keep uploads in memory: Starlette would write those of more than 1 MB to temporary files.
MultiPartParser.spool_max_size = (MAX_UPLOAD_MB + 1) * 2**20
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
selected = st.navigation(list(pages.values()), position="top")
if selected != pages["try"]:
    # A shared link to another page must not give access to the uploads.
    st.query_params.pop(SESSION_PARAMETER, None)
    forget_widgets()
selected.run()
