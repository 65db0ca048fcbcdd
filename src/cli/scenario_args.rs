//! The flags that say what to run, shared by the commands that run it.

use std::path::{Path, PathBuf};

use dynosim::scenario::{Outputs, Run, Scenario, ScenarioError};

/// A scenario from flags, a file or both.
#[derive(Debug, clap::Args)]
pub struct ScenarioArgs {
    #[command(flatten)]
    flags: Scenario,
    /// Scenario file; a flag replaces the whole value of its key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ScenarioArgs {
    /// The run and its output files, from file and flags together.
    pub fn resolve(&self) -> Result<(Run, Outputs), ScenarioError> {
        let scenario = self.overlaid()?;
        // Paths of the file start at its folder already; those of flags start at the working folder.
        let here = Path::new("");
        let both = scenario.resolve(here).and_then(|run| Ok((run, scenario.outputs(here)?)));
        both.map_err(|error| self.locate(error))
    }

    fn overlaid(&self) -> Result<Scenario, ScenarioError> {
        match &self.config {
            Some(path) => Scenario::load(path)?.overlaid(&self.flags),
            None => Ok(self.flags.clone()),
        }
    }

    fn locate(&self, error: ScenarioError) -> ScenarioError {
        Scenario::locate(error, &self.flags, self.config.as_deref())
    }
}

#[cfg(feature = "gui")]
impl ScenarioArgs {
    /// The scenario, checked, and a title for it.
    pub fn scenario(&self) -> Result<(Scenario, String), ScenarioError> {
        let scenario = self.overlaid()?;
        scenario.resolve(Path::new("")).map_err(|error| self.locate(error))?;
        let name = self.config.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str());
        let title = name.map_or_else(|| "DynoSim".to_owned(), |name| format!("{name} - DynoSim"));
        Ok((scenario, title))
    }
}
