"""One module for each page; `app.main` lists them.

A folder named pages would be taken by Streamlit for pages of its own kind.
"""
