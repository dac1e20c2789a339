"""The command line: each command parses its arguments, calls the package and prints the result.

In: arguments, standard input. Out: files, text or JSON, and an exit code.
Read `main` first: it defines the application. Each other module defines one command or a group of commands, except
`options` (options that several commands share) and `terminal` (signals, progress bar, safe output).
"""
