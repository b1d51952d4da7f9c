"""The parts of benches/run: what is measured, against what, and how it is told (docs/PERFORMANCE.md)."""
