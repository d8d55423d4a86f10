"""One module for each page; `app.main` lists them."""
