"""Code of the module's own that takes part in construction or in loading."""
