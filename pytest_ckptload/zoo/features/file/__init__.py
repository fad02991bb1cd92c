"""How the file is written, and what happened to it afterwards."""
