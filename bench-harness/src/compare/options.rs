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
    /// Members of each server's cluster, all on this machine: for the scenarios of load, and for leader-loss and
    /// rolling-restart, which need three at least.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub members: u32,
    /// Where the data directories are made: its disk is what is measured.
    #[arg(long, default_value = "target/compare")]
    pub work_dir: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    pub scenario: ScenarioOptions,
}

impl Options {
    /// What cannot be run, and why.
    pub fn check(&self) -> Result<(), String> {
        for scenario in &self.scenarios {
            let members = scenario.members();
            if !members.contains(&self.members) {
                let name = clap::ValueEnum::to_possible_value(scenario).expect("every scenario has a name");
                let (name, from, to) = (name.get_name().to_owned(), members.start(), members.end());
                return Err(format!("{name} is for {from} to {to} members: --members is {}", self.members));
            }
        }
        Ok(())
    }
}
