"""How a tensor lies in the file, and what of it differs from the module's."""
