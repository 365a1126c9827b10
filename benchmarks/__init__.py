"""python -m benchmarks: speed and memory of the parts, one module each, with the machine they were measured on. No test asserts a timing."""
