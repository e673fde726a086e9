"""`lucidet bench`: the same work by lucidet and by others, in one run, checked and then timed."""
