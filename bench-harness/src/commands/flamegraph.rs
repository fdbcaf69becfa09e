//! `bench-harness flamegraph`.

use bench_harness::flamegraph;

pub fn run(options: flamegraph::Options) -> anyhow::Result<()> {
    let summary = flamegraph::run(&options)?;
    println!("{summary}\n{}", options.out.display());
    Ok(())
}
