"""Buffers, and tensors that are neither buffer nor parameter."""
