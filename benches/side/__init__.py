"""The parts of benches/run: measurements, the gateways compared, and the report (docs/PERFORMANCE.md)."""
