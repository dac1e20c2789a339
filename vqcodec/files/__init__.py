"""Many files: plan the jobs, run them in one process, in several or on a cluster, and report the outcomes.

In: the inputs and options of a command. Out: files, and a record for each.
Read `plan` first, then `work` (one job) and `batch` (all jobs). `folders` chooses the files of a folder, `outcome` is
the result or error of a job, `summary` sums up the outcomes of a run, `manifest` stores outcomes between runs, `pool`
runs jobs in processes, `read_write` reads inputs and writes results.
"""
