"""WHERE IT RUNS. In: batches of work. Out: their results, as each is finished."""
