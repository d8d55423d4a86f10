"""One module per page of the web app; `app.main` lists them.

The folder is not named `pages` because Streamlit turns every file in such a folder into a page.
"""
