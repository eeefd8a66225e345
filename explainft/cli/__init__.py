"""The command line: one sub-command, one function.

Lives here: flags, and the calls that they lead to.
May not: import anything heavy before a sub-command needs it.
"""
