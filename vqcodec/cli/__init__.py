"""The command line: parse the arguments, call one function, print the result.

In: arguments, standard input. Out: files, text or JSON, an exit code.
Read `main` first: it holds the application; each other module holds a group of commands.
"""
