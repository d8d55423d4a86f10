"""How large an installation has to be, what it costs, and where it would bend."""
