"""The page: a Streamlit app over the model server and the tables; `moodlake app` starts it."""
