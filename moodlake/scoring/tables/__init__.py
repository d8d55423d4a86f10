"""The results table and the runs table: schema, commits and queries."""
