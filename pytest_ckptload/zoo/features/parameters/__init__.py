"""Parameters of every kind."""
