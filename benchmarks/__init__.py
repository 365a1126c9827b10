"""python -m benchmarks: speed and memory of the parts, with the machine they were measured on. Nothing here is asserted by a test."""
