"""What the benchmarks are made of; not benchmarks themselves."""
