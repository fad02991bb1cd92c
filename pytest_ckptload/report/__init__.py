"""What is said of a search: texts for people, scripts and data for everybody else."""

from __future__ import annotations
