//! What to compare, and how often.

use std::path::PathBuf;

use super::scenario::{Scenario, ScenarioOptions};
use super::subject::SubjectOptions;

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    pub subjects: SubjectOptions,
    #[arg(
        long = "scenario",
        value_enum,
        value_delimiter = ',',
        default_value = "put,put1,get,get-serializable,txn,mixed,open"
    )]
    pub scenarios: Vec<Scenario>,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Where the data directories are made: its disk is what is measured.
    #[arg(long, default_value = "target/compare")]
    pub work_dir: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    pub scenario: ScenarioOptions,
}
