"""The command line: one module a command, its flags beside what it does.

Lives here: `add_parser(subparsers)` and `run(args)` of each command; main.py dispatches to them.
May not: import anything heavy before a command runs.
"""
