"""The web app: a Streamlit front end to the model server and the tables (`moodlake app`)."""
