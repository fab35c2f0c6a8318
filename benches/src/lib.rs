//! Criterion benches. `cargo bench -p dn-benches --bench linear` times the CPU kernels; `docs/perf/` keeps results.
