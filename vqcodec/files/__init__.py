"""Many files: plan which file goes where, do the work, report it; in one process, in several, or on a cluster.

In: the inputs and options of a command. Out: files, and a record for each.
Read `plan` first, then `work` (one job) and `batch` (all jobs). `outcome` is what became of a job, `manifest` remembers
it between runs, `pool` runs jobs in processes, `read_write` reads inputs and writes results.
"""
