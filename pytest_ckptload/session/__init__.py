"""What the plugin does with a pytest session once a part of it is asked for.

Apart from ``plugin``, which stays small and cheap: each file here is imported when a test or an
option wants it.
"""
