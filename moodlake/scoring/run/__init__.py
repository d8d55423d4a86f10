"""A scoring run: planning, scoring, the quality gate and publication."""
