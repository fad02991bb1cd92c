"""What belongs to the machine and to the process, and not to any case: devices and their memory,
dtypes, torch's global state, the process' own. It is looked up, or set up and put back.
"""
