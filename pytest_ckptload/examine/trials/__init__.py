"""What a loaded module is put through, and the files around it, to see more than looking shows.

Apart from the observers, which change nothing: here modules are called, trained and loaded again,
and their file is destroyed. Each file gives the facts of one trial, for rules to judge.
"""
